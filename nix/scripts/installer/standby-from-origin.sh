#!/bin/sh
# standby-from-origin.sh FOLDER IMAGE LITERALS DISK... -- NAME BYTES SHA256 PIECES [NAME ...]
# Runs in the installer before the disks are formatted, in a mount namespace of its own (`unshare -m`), so that no mount
# outlives it. Looks on the DISKs, which will be wiped, for the image that the origin was given, and makes the files
# NAME of the standby in FOLDER from it (holdfast/target/from_origin.py). What it cannot make is uploaded.
#
#   DISK      a disk by the kernel's name, as `sda` or `cciss!c0d0`
#   IMAGE     the folder below the origin's /var/lib/holdfast from which the installer was started
#   LITERALS  how many bytes of small parts come on standard input
#   PIECES    what NAME consists of, with commas: a file of the image, as `bzImage`, or @OFFSET+BYTES of the literals
#
# Prints the NAMEs that are there now, each checked by its size and sha256. Whatever is unknown is left alone. Nothing is
# written to a disk: the file system lies on a read-only loop device, since a read-only mount alone may replay a journal
# or clean up orphans (fs/ext4/orphan.c).
set -eu
umask 077
export LC_ALL=C

folder=$1 image=$2 literals=$3
shift 3
disks=
while [ "$1" != -- ]; do
	disks="$disks $1"
	shift
done
shift

mounted=$folder/.origin
loop=
release() {
	umount "$mounted" 2>/dev/null || true
	[ -z "$loop" ] || losetup -d "$loop" 2>/dev/null || true
	loop=
}
clean_up() {
	status=$?
	trap '' HUP INT PIPE TERM
	trap - EXIT
	release
	rmdir "$mounted" 2>/dev/null || true
	rm -f "$folder/.literals" "$folder/.made"
	exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

size() { wc -c <"$1" | tr -d ' '; }

# Whether nothing on this machine uses the device: no volume, array or mapping, no mount and no swap.
is_free() {
	for holder in "/sys/class/block/$1/holders/"*; do
		[ ! -e "$holder" ] || return 1
	done
	read -r number <"/sys/class/block/$1/dev"
	! grep -q "^[0-9]* [0-9]* $number " /proc/self/mountinfo && ! grep -q "^$2 " /proc/swaps
}

# Sets options to how this kind of file system is mounted without being repaired; fails if the kind is unknown.
how_to_mount() {
	case $1 in
	ext2) options=ro ;;
	ext3 | ext4) options=ro,noload ;;
	xfs) options=ro,norecovery,nouuid ;;
	btrfs) options=ro,rescue=nologreplay ;;
	*) return 1 ;;
	esac
}

# Mounts what lies on a device, read-only.
mount_origin() {
	kind=$(blkid -p -s TYPE -o value "$1" 2>/dev/null) || return 1
	how_to_mount "$kind" || return 1
	loop=$(losetup -r -f --show "$1" 2>/dev/null) || { loop= && return 1; }
	[ "$(cat "/sys/class/block/${loop##*/}/ro")" = 1 ] &&
		mount -t "$kind" -o "$options,nodev,noexec,nosuid" "$loop" "$mounted" 2>/dev/null
}

# Prints the image's folder in what is mounted. A root may be a subvolume; /var and /var/lib may be file systems.
find_image() {
	for found in "$mounted"/var/lib/holdfast "$mounted"/lib/holdfast "$mounted"/holdfast \
		"$mounted"/*/var/lib/holdfast "$mounted"/*/lib/holdfast "$mounted"/*/holdfast; do
		if [ -d "$found/$image/kexec" ]; then
			echo "$found/$image/kexec"
			return
		fi
	done
	return 1
}

# Prints what the pieces make.
pieces() {
	rest=$2,
	while [ -n "$rest" ]; do
		piece=${rest%%,*}
		rest=${rest#*,}
		case $piece in
		@*)
			at=${piece#@}
			tail -c "+$((${at%+*} + 1))" "$folder/.literals" | head -c "${at#*+}"
			;;
		*)
			[ -f "$1/$piece" ] && [ ! -L "$1/$piece" ] || return 1
			cat "$1/$piece"
			;;
		esac
	done
}

# make FROM NAME BYTES SHA256 PIECES: makes a file, unless it is there.
make() {
	if [ ! -e "$folder/$2" ]; then
		pieces "$1" "$5" | head -c "$(($3 + 1))" >"$folder/.made"
		[ "$(size "$folder/.made")" = "$3" ] || return 0
		[ "$(sha256sum <"$folder/.made" | cut -d ' ' -f 1)" = "$4" ] || return 0
		mv "$folder/.made" "$folder/$2"
	fi
	echo "$2"
}

cat >"$folder/.literals"
[ "$(size "$folder/.literals")" = "$literals" ]
mkdir -p "$mounted"
for disk in $disks; do
	for part in "/sys/class/block/$disk" "/sys/class/block/$disk/"*; do
		name=${part##*/}
		[ -e "$part/dev" ] || continue
		[ "$name" = "$disk" ] || [ -e "$part/partition" ] || continue
		device=/dev/$(echo "$name" | tr '!' /)
		if is_free "$name" "$device" && mount_origin "$device" && from=$(find_image); then
			while [ $# -ge 4 ]; do
				make "$from" "$1" "$2" "$3" "$4"
				shift 4
			done
			exit 0
		fi
		release
	done
done
