# shellcheck shell=sh
# cut-to.sh: a part of kexec-run.sh, start-alone.sh, make-room.sh and the start of a stock image (tasks/kexec.py):
# how the secrets behind an image's initrd are removed. `initrd.length` beside it says where the image's own part ends, as
# long as there may be more.

# Not `wc -c`: busybox reads the whole image for it. OpenWrt has no stat.
length_of() { if command -v stat >/dev/null; then stat -c %s "$1"; else wc -c <"$1" | tr -d ' '; fi; }

# cut_to FILE LENGTH: overwrites what a file has beyond LENGTH, and cuts it off. First the rest of a block, then whole
# ones. Fails if it could not be cut off.
cut_to() {
	block=$((($2 + 4095) / 4096))
	blocks=$((($(length_of "$1") + 4095) / 4096 - block))
	[ "$blocks" -gt 0 ] || blocks=0
	{
		dd if=/dev/zero of="$1" bs=1 seek="$2" count=$((block * 4096 - $2)) conv=notrunc &&
			dd if=/dev/zero of="$1" bs=4096 seek="$block" count="$blocks" conv=notrunc,fsync
	} 2>/dev/null || echo "could not overwrite the end of $1, only cut it off" >&2
	dd if=/dev/null of="$1" bs=1 seek="$2" count=0 2>/dev/null
	if [ "$(length_of "$1")" != "$2" ]; then
		echo "could not cut $1 back to $2 bytes: it holds secrets, remove it" >&2
		return 1
	fi
}

# cut_back INITRD: cuts off all that was appended, if anything was
cut_back() {
	[ -s "$1.length" ] || return 0
	cut_to "$1" "$(cat "$1.length")" || return 1
	rm -f "$1.length"
}
