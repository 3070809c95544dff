#!/bin/sh
# disk-layout.sh DISK...: prints what each disk (its device file) holds, read from the disk itself: `DISK PART START SIZE
# TYPE UUID` for each partition, and `DISK - 0 SIZE TYPE UUID` for what the disk itself holds. PART is the partition's
# kernel name, START and SIZE are in sectors of 512 bytes, TYPE and UUID those of its file system, RAID, LUKS, …, or `-`.
# The partitions of a disk with several paths are devices of their own (kpartx); where they start is not told.
# Changes nothing. Runs in the installer before and after formatting; holdfast/target/digests.py compares.
# blkid must be util-linux's: busybox's does not probe on demand. Without it, TYPE and UUID are `-`.
set -uf
export LC_ALL=C

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests

# line FILE: prints its first line
line() {
	text=
	[ -r "$1" ] && read -r text <"$1"
	printf '%s' "${text:--}"
}

# holds DEVICE: prints TYPE and UUID, without what could be taken for another line
holds() {
	said=$(blkid -p -o export "$root$1" </dev/null 2>/dev/null)
	for key in TYPE UUID; do
		value=$(printf '%s\n' "$said" | sed -n "s/^$key=\([A-Za-z0-9_.:-]*\)\$/\1/p" | head -n 1)
		printf ' %s' "${value:--}"
	done
	printf '\n'
}

# partition NAME FOLDER START: prints the line of a partition, after its disk
partition() {
	printf '%s %s %s %s' "$disk" "$1" "$3" "$(line "$2/size")"
	holds "/dev/$(printf %s "$1" | tr '!' /)"
}

# udev may still read what was just written.
if command -v udevadm >/dev/null; then udevadm settle --timeout=30 </dev/null >/dev/null 2>&1; fi
for disk in "$@"; do
	block=$root/sys/block/$(printf %s "${disk#/dev/}" | tr / '!')
	printf '%s - 0 %s' "$disk" "$(line "$block/size")"
	holds "$disk"
	set +f
	set -- "$block"/*/partition "$block"/holders/*
	set -f
	for file in "$@"; do
		folder=${file%/partition}
		name=${folder##*/}
		case $file in
		*/holders/*)
			folder=$root/sys/block/$name
			case $(line "$folder/dm/uuid") in part[0-9]*-mpath-*) partition "$name" "$folder" - ;; esac
			;;
		*) [ ! -r "$file" ] || partition "$name" "$folder" "$(line "$folder/start")" ;;
		esac
	done
done
