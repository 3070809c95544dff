#!/bin/sh
# bios-boot.sh show ROOT          what the disk starts
# bios-boot.sh keep ROOT [next]   the disk starts the standby; with `next`, the new system before it, once
# bios-boot.sh settle ROOT        the disk starts the new system; the standby can be removed then
#
# The first boot from the disk is a trial too, also where the firmware is a BIOS, if the new boot loader is GRUB. A BIOS
# starts the disk's first 440 bytes. GRUB's start what grub-install put behind them, or into a BIOS boot partition; none
# of that is the standby's. So one of the two can wait in a file. ROOT is where the new system is mounted: `/` when it
# runs. Beside the standby are (standby.sh)
#   holdfast/boot-code   the standby's first 440 bytes
#   holdfast/new.mbr     the new system's whole first sector: zeros until `keep` writes it
#   syslinux.cfg         starts the standby; its label `new` starts the boot sector in new.mbr
# and in the last 1024 bytes of ldlinux.sys what extlinux starts once: its auxiliary data vector, twice. Extlinux clears
# that on the disk before it starts it. `extlinux --once=new` would write the same, but the final system has no extlinux.
# The format is Syslinux' libinstaller/setadv.c; since only one value is ever needed, the bytes are written down below.
#
# Each write is one sector, of the disk or of a file that has its blocks already; of the two vectors the first that is
# valid counts. So a power cut finds each written or not, and this can be killed anywhere, and repeated. new.mbr is
# written only while the disk does not start extlinux. After each step the disk starts:
#   keep   0 (grub-install)                         the new system
#          1 the first sector into new.mbr          the new system: extlinux is not started
#          2 what extlinux starts once: with        the new system: as before. If this is repeated, or there is no new
#            `next` new.mbr, else nothing           boot loader yet: the standby, or the new system once before it
#          3 boot-code into the disk                the standby; with `next`, the new system once before it
#   settle 1 new.mbr's code into the disk           the new system; extlinux is not started any more
# The rest of the first sector, signature and partition table, stays as it is: only the first 440 bytes are written.
# The last line that it prints is
#   kept: …     or settled: …    what the disk starts now, read back from it
#   none: WHY                    nothing leads back. Then `settle` says whether the standby can be removed
# `show` says `kept: …` if the standby waits behind the new system. `none` of `settle`: the standby has to stay, since
# the disk starts it.
# Needs no more than busybox has. The script may come on standard input, so nothing in it may read that.
set -uf
umask 077
export LC_ALL=C

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests
work=

. "${0%/*}/../parts/mounted.sh"

usage() {
	echo "usage: bios-boot.sh show ROOT | keep ROOT [next] | settle ROOT" >&2
	exit 2
}

none() {
	echo "none: $*"
	exit 0
}

bytes() { wc -c <"$1"; }

# vector CHECKSUM DATA LENGTH: prints an auxiliary data vector: its magic number, a checksum (the sum of all words but
# the first and the last is 0xa3041767), tags with their values, and its other magic number. LENGTH is that of DATA
vector() {
	# shellcheck disable=SC2059 # escapes
	printf "\\245\\057\\055\\132$1$2"
	dd if=/dev/zero bs=1 count=$((500 - $3)) 2>/dev/null
	printf '\144\277\050\335'
}

# Makes `next`, where ADV_BOOTONCE, tag 1, is `new`, and `never`, which is empty; both vectors of each.
make_vectors() {
	vector '\357\023\226\075' '\001\003new' 5 >"$work/vector"
	cat "$work/vector" "$work/vector" >"$work/next"
	vector '\147\027\004\243' '' 0 >"$work/vector"
	cat "$work/vector" "$work/vector" >"$work/never"
}

# vectors: prints those of the standby's extlinux
vectors() { tail -c 1024 "$extlinux"; }

# magic: prints the four magic numbers, in hexadecimal
magic() {
	for at in 1 509 513 1021; do vectors | tail -c +$at | head -c 4; done | od -An -v -tx1 | tr -d ' \n'
}

# is_grub FILE: is it a first sector with GRUB's code? That prints its name if it cannot go on (boot/i386/pc/boot.S)
is_grub() {
	[ "$(bytes "$1")" -eq 512 ] && [ "$(tail -c 2 "$1" | od -An -v -tx1)" = ' 55 aa' ] &&
		head -c 440 "$1" | tr -c ' -~' '\n' | grep -q 'GRUB $'
}

# starts FILE: is the disk's code that of the file's first 440 bytes?
starts() {
	head -c 440 "$1" >"$work/code"
	head -c 440 "$root$disk" | cmp -s - "$work/code"
}

# Sets `boot`, where the standby is, and `ours`, its folder. An older standby has no boot-code.
find_boot() {
	for boot in "$new/boot" "$new/boot/efi" "$new/efi"; do
		ours=$boot/holdfast
		if [ -f "$ours/boot-code" ]; then return; fi
	done
	return 1
}

# Sets `disk`, the one that the standby's boot file system is on.
find_disk() {
	for place in "$boot" "${new:-/}"; do
		# shellcheck disable=SC2046 # two words
		set -- $(mounted "$place")
		[ $# -ne 2 ] || break
	done
	[ $# -eq 2 ] || none "it is not known what is mounted at $boot"
	partition=$(readlink -f "$root/sys/dev/block/$2") && [ -r "$partition/partition" ] ||
		none "$boot is not on a partition of a disk"
	disk=${partition%/*}
	disk=/dev/$(printf %s "${disk##*/}" | tr '!' /)
	[ -r "$root$disk" ] || none "$disk is not there"
}

# owns: is the boot loader's configuration there still the standby's?
owns() { case $(head -n 1 "$boot/syslinux.cfg" 2>/dev/null) in '# Holdfast standby'*) ;; *) return 1 ;; esac }

# Sets all that is said of the standby; ends with `none` if extlinux could not start it, and `new`.
require_standby() {
	find_boot || none "no standby that can stay is below ${new:-/}"
	find_disk
	extlinux=$boot/ldlinux.sys
	saved=$ours/new.mbr
	owns || none "another boot loader has replaced $boot/syslinux.cfg"
	for file in "$extlinux" "$boot/ldlinux.c32" "$ours/kernel" "$saved"; do
		[ -s "$file" ] || none "$file of the standby is gone"
	done
	[ "$(bytes "$ours/boot-code")" -eq 440 ] || none "$ours/boot-code is damaged"
	[ "$(bytes "$saved")" -eq 512 ] || none "$saved is damaged"
	[ $(($(bytes "$extlinux") % 512)) -eq 0 ] && [ "$(magic)" = a52f2d5a64bf28dda52f2d5a64bf28dd ] ||
		none "$extlinux is damaged"
}

# write FILE PLACE SIZE [BLOCK]: writes FILE in its place, in one write, and waits until it is on the disk
write() {
	dd if="$1" of="$2" bs="$3" count=1 seek="${4-0}" conv=notrunc,fsync 2>"$work/error" ||
		none "$2 cannot be written ($(tail -n 1 "$work/error" | sed 's/.*: //'))"
}

# start_once FILE: makes extlinux start once what these vectors say, unless they are there
start_once() {
	if vectors | cmp -s - "$1"; then return; fi
	size=$(bytes "$extlinux")
	tail -c 512 "$1" >"$work/vector"
	write "$work/vector" "$extlinux" 512 $((size / 512 - 2))
	write "$work/vector" "$extlinux" 512 $((size / 512 - 1))
	vectors | cmp -s - "$1" || none "$extlinux does not hold what was written"
}

# put_sector FILE: writes it into new.mbr, unless it is there
put_sector() {
	if cmp -s "$1" "$saved"; then return; fi
	write "$1" "$saved" 512
	cmp -s "$1" "$saved" || none "$saved does not hold what was written"
}

# put_code FILE: makes the disk start the file's first 440 bytes, unless it does
put_code() {
	if starts "$1"; then return; fi
	write "$work/code" "$root$disk" 440
	starts "$1" || none "$disk does not hold what was written"
}

show() {
	require_standby
	starts "$ours/boot-code" || none "$disk starts the new system"
	is_grub "$saved" || none "$disk starts the standby only"
	make_vectors
	if vectors | cmp -s - "$work/next"; then
		echo "kept: $disk starts the new system once, then the standby"
	else
		echo "kept: $disk starts the standby"
	fi
}

keep() {
	require_standby
	if ! starts "$ours/boot-code"; then
		head -c 512 "$root$disk" >"$work/sector"
		is_grub "$work/sector" || none "the new boot loader in the first bytes of $disk is not GRUB"
		put_sector "$work/sector"
	elif [ -n "$once" ] && ! is_grub "$saved"; then
		none "the new boot loader is not in the first bytes of $disk"
	fi
	make_vectors
	start_once "$work/${once:-never}"
	put_code "$ours/boot-code"
	if [ -n "$once" ]; then
		echo "kept: $disk starts the new system once, then the standby"
	else
		echo "kept: $disk starts the standby"
	fi
}

settle() {
	if ! find_boot || ! owns; then
		echo "settled: the disk starts no standby that waits behind the new system"
		return
	fi
	find_disk
	saved=$ours/new.mbr
	if starts "$ours/boot-code"; then
		if ! is_grub "$saved"; then
			echo "settled: nothing of a new boot loader was kept"
			return
		fi
		put_code "$saved"
	fi
	echo "settled: $disk starts the new system"
}

# Nothing happens before the whole script is here: it comes over a link that may break.
main() {
	case $#-${1-}-${3-} in 2-show- | 2-keep- | 3-keep-next | 2-settle-) ;; *) usage ;; esac
	new=${2%/}
	once=${3-}
	mkdir -p "$root/run/holdfast"
	work=$(mktemp -d "$root/run/holdfast/bios.XXXXXX") || exit 1
	trap 'rm -rf "$work"' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 141' PIPE
	trap 'exit 143' TERM
	"$1"
}

main "$@" </dev/null
