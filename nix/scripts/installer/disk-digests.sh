#!/bin/sh
# disk-digests.sh DISK...: prints a line for each disk (its device file): `DISK FIRST LAST`, the SHA-256 of its first
# and of its last MiB, where partition tables and the labels of RAID, LVM and ZFS are; or `DISK unreadable`, `DISK
# gone`. Changes nothing. Runs in the installer before and after formatting; holdfast/target/digests.py compares.
# What Linux' RAID writes when it assembles or stops an array counts as zeros. Nothing else is left out: LVM and btrfs
# write nothing when they find a disk, and a pool of ZFS that is imported, or a file system that is mounted, is in use.
# Needs no more than busybox has. Keeps a MiB at a time in /tmp, which is in RAM.
set -u
export LC_ALL=C

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests
sectors_read=2048       # of 512 bytes: 1 MiB

. "${0%/*}/../parts/md-superblock.sh"

copy=$(mktemp) || exit 1
trap 'rm -f "$copy"' EXIT
trap 'exit 1' HUP INT PIPE TERM

# digest SKIP: prints the digest of a MiB of the disk that begins at sector SKIP; nothing if it cannot be read
digest() {
	dd if="$file" of="$copy" bs=512 skip="$1" count="$sectors_read" </dev/null 2>/dev/null || return 0
	for hole in $holes; do
		from=$((${hole%:*} - $1 * 512))
		if [ "$from" -ge 0 ] && [ "$from" -lt $((sectors_read * 512)) ]; then
			dd if=/dev/zero of="$copy" bs=1 seek="$from" count="${hole#*:}" conv=notrunc </dev/null 2>/dev/null ||
				return 0
		fi
	done
	set -- "$(sha256sum <"$copy")"
	printf '%s' "${1%% *}"
}

for disk in "$@"; do
	file=$root$disk
	if [ ! -e "$file" ]; then
		printf '%s gone\n' "$disk"
		continue
	fi
	# The cache of the whole disk does not have what was written to a partition.
	if command -v blockdev >/dev/null; then blockdev --flushbufs "$file" </dev/null >/dev/null 2>&1; fi
	size=
	block=$root/sys/block/$(printf %s "${disk#/dev/}" | tr / '!')
	[ -r "$block/size" ] && read -r size <"$block/size"
	case $size in '' | *[!0-9]*) size=0 ;; esac
	md_holes
	first=$(digest 0)
	last=$(digest $((size > sectors_read ? size - sectors_read : 0)))
	if [ "$size" -gt 0 ] && [ -n "$first" ] && [ -n "$last" ]; then
		printf '%s %s %s\n' "$disk" "$first" "$last"
	else
		printf '%s unreadable\n' "$disk"
	fi
done
