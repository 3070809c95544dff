#!/bin/sh
# disk-paths.sh PATH...: prints what each path below /dev leads to, as lines `NUMBER DEVICE DISK...`: the path's number
# among the arguments, beginning with 1; a block device, by its kernel name; the disks that it lies on, through
# partitions, LVM, RAID, dm-crypt and the like. A link has a line for every device that claims it in udev's database:
# two disks may have a partition of the same name, and only one of them has the link now. A `*` at the end of a path
# stands for anything. A path that leads to no block device has no line. Changes nothing; runs in the installer.
# Needs no more than busybox has.
set -uf
export LC_ALL=C

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests

# block NAME: prints the folder of a block device in sysfs; nothing if there is no such device
block() {
	set +f
	for folder in "$root/sys/block/$1" "$root"/sys/block/*/"$1"; do
		if [ -r "$folder/size" ]; then
			printf '%s' "$folder"
			break
		fi
	done
	set -f
}

# is_hidden FOLDER: whether it is a path to an NVMe disk that has several: the disk itself is what the facts name
is_hidden() {
	hidden=
	[ -r "$root/sys/block/${1##*/}/hidden" ] && read -r hidden <"$root/sys/block/${1##*/}/hidden"
	[ "$hidden" = 1 ]
}

# below NAME DEPTH: prints the disks that a block device lies on, one a line. What is deeper counts as a disk: no plan
# names it, so the install stops. As nothing, it would pass.
below() {
	folder=$(block "$1")
	[ -n "$folder" ] || return 0
	if [ "$2" -eq 0 ]; then
		printf '%s\n' "$1"
		return
	fi
	if [ -e "$folder/partition" ]; then
		folder=${folder%/*}
		below "${folder##*/}" $(($2 - 1))
		return
	fi
	set +f
	set -- "$1" "$2" "$folder"/slaves/*
	set -f
	if [ ! -e "${3:-}" ] || is_hidden "$3"; then
		printf '%s\n' "$1"
		return
	fi
	depth=$(($2 - 1))
	shift 2
	for slave in "$@"; do (below "${slave##*/}" "$depth"); done
}

# found NUMBER NAME: prints a line, if NAME is a block device
found() {
	[ -z "$(block "$2")" ] || printf '%s %s %s\n' "$1" "$2" "$(below "$2" 24 | sort -u | tr '\n' ' ')"
}

# claims PATH: prints the kernel names of all devices that udev gives this link to
claims() {
	set +f
	set -- "S:${1#/dev/}" "$root"/run/udev/data/b*
	set -f
	grep -lxF "$@" 2>/dev/null | while read -r file; do
		device=$(readlink "$root/sys/dev/block/${file##*/b}") && printf '%s\n' "${device##*/}"
	done
}

# leads PATH: prints the kernel names of the devices that a path leads to
leads() {
	real=$(readlink -f "$root$1") && case $real in "$root"/dev/*) printf '%s\n' "${real#"$root"/dev/}" | tr / '!' ;; esac
	claims "$1"
}

number=0
for path in "$@"; do
	number=$((number + 1))
	case $path in
	*'*')
		set +f
		for each in "$root${path%?}"*; do
			[ ! -e "$each" ] || leads "${each#"$root"}"
		done
		set -f
		;;
	*) leads "$path" ;;
	esac | sort -u | while read -r name; do found "$number" "$name"; done
done
