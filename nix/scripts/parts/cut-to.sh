# shellcheck shell=sh
# cut-to.sh: a part of kexec-run.sh, start-alone.sh, make-room.sh and the start of a stock image (tasks/kexec.py):
# how the secrets behind an image's initrd are removed. `initrd.length` beside it says where the image's own part ends, as
# long as there may be more. `initrd.plain` says where the secrets end, if something follows that is none and may be
# large: that is only cut off (kexec-keep.sh).

# Not `wc -c`: busybox reads the whole image for it. OpenWrt has no stat.
length_of() { if command -v stat >/dev/null; then stat -c %s "$1"; else wc -c <"$1" | tr -d ' '; fi; }

# shorten FILE LENGTH: cuts off what a file has beyond LENGTH, and fails if it could not
shorten() {
	dd if=/dev/null of="$1" bs=1 seek="$2" count=0 2>/dev/null
	[ "$(length_of "$1")" = "$2" ]
}

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
	if ! shorten "$1" "$2"; then
		echo "could not cut $1 back to $2 bytes: it holds secrets, remove it" >&2
		return 1
	fi
}

# cut_plain INITRD LENGTH: cuts off what is no secret. What `initrd.plain` says counts only if it can be true.
cut_plain() {
	plain=$(cat "$1.plain" 2>/dev/null) || plain=
	case $plain in '' | *[!0-9]*) return 0 ;; esac
	if [ "$plain" -ge "$2" ] && [ "$plain" -lt "$(length_of "$1")" ]; then shorten "$1" "$plain" || true; fi
}

# cut_back INITRD: cuts off all that was appended, if anything was
cut_back() {
	[ -s "$1.length" ] || return 0
	cut_plain "$1" "$(cat "$1.length")"
	cut_to "$1" "$(cat "$1.length")" || return 1
	rm -f "$1.plain" "$1.length"
}
