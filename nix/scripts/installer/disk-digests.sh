#!/bin/sh
# disk-digests.sh DISK...: prints a line for each disk (its device file): `DISK FIRST LAST`, the SHA-256 of its first
# and of its last MiB, where partition tables and the labels of RAID, LVM and ZFS are; or `DISK unreadable`, `DISK
# gone`. Changes nothing. Runs in the installer before and after formatting; holdfast/target/digests.py compares.
# Needs no more than busybox has.
set -uf
export LC_ALL=C

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests
sectors=2048            # of 512 bytes: 1 MiB

# digest DISK SKIP: prints the digest of a MiB that begins at sector SKIP; nothing if it cannot be read
digest() {
	# dd's status comes first: dd ends before sha256sum sees the end of its input.
	# shellcheck disable=SC2046  # a number, a digest and a dash
	set -- $({ {
		dd if="$1" bs=512 skip="$2" count="$sectors" </dev/null 2>/dev/null
		echo "$?" >&3
	} | sha256sum; } 3>&1)
	if [ "${1:-1}" = 0 ]; then printf '%s' "${2:-}"; fi
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
	first=$(digest "$file" 0)
	last=$(digest "$file" $((size > sectors ? size - sectors : 0)))
	if [ "$size" -gt 0 ] && [ -n "$first" ] && [ -n "$last" ]; then
		printf '%s %s %s\n' "$disk" "$first" "$last"
	else
		printf '%s unreadable\n' "$disk"
	fi
done
