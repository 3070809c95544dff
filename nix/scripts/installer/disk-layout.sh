#!/bin/sh
# disk-layout.sh DISK...: prints what each disk (its device file) holds, read from the disk itself: `DISK PART START SIZE
# TYPE UUID` for each partition, and `DISK - 0 SIZE TYPE UUID` for what the disk itself holds. PART is the partition's
# kernel name, START and SIZE are in sectors of 512 bytes, TYPE and UUID those of its file system, RAID, LUKS, …, or `-`.
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

# udev may still read what was just written.
if command -v udevadm >/dev/null; then udevadm settle --timeout=30 </dev/null >/dev/null 2>&1; fi
for disk in "$@"; do
	block=$root/sys/block/$(printf %s "${disk#/dev/}" | tr / '!')
	printf '%s - 0 %s' "$disk" "$(line "$block/size")"
	holds "$disk"
	set +f
	set -- "$block"/*/partition
	set -f
	for file in "$@"; do
		[ -r "$file" ] || continue
		part=${file%/partition}
		printf '%s %s %s %s' "$disk" "${part##*/}" "$(line "$part/start")" "$(line "$part/size")"
		holds "/dev/$(printf %s "${part##*/}" | tr '!' /)"
	done
done
