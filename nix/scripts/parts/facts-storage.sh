# shellcheck shell=sh disable=SC2154 # facts.sh sets root, and its first_line sets text
# facts-storage.sh: a part of facts.sh: the disks, what lies on them, and how they are. holdfast/facts/storage.py makes a
# graph of it. Most of it is from sysfs. No process is started for a file or a device: there may be thousands.

# attribute DISK NAME FILE...: prints a line `DISK NAME VALUE`, with the value of the first file that has one
attribute() {
	disk=$1
	what=$2
	shift 2
	for file in "$@"; do
		first_line "$file"
		if [ -n "$text" ]; then
			printf '%s %s %s\n' "$disk" "$what" "$text"
			return
		fi
	done
}

# links FOLDER...: prints `FOLDER/NAME TARGET` for each symbolic link in them
links() {
	# shellcheck disable=SC2012 # udev and the kernel make these names: without blanks
	ls -ln "$@" | {
		folder=$1
		while read -r entry; do
			case $entry in
			l*' -> '*)
				target=${entry##*' -> '}
				entry=${entry%" -> $target"}
				name=${entry##*' '}
				printf '%s/%s %s\n' "$folder" "${name##*/}" "$target"
				;;
			/*:) folder=${entry%:} ;;
			esac
		done
	}
}

# Sets virtual to the names of the block devices without hardware of their own, between blanks. The kernel has them all
# in one folder; the head of an NVMe disk with several paths is not in it.
find_virtual() {
	virtual=$(links "$root/sys/block" | while read -r link target; do
		case $target in */devices/virtual/block/"${target##*/}") printf '%s ' "${link##*/}" ;; esac
	done)
	virtual=" $virtual"
}

# is_stacked NAME: whether it is no disk: it is virtual, or lies on other devices. The names are for a sysfs without links.
is_stacked() {
	case $virtual in *" $1 "*) return 0 ;; esac
	case $1 in dm-* | md[0-9_]* | bcache* | zd[0-9]* | nbd* | rbd* | drbd*) return 0 ;; esac
	for below in "$root/sys/block/$1/slaves"/*; do
		below=${below##*/}
		first_line "$root/sys/block/$below/hidden"
		[ "$below" = '*' ] || [ "$text" = 1 ] || return 0
	done
	return 1
}

# each_device COMMAND WANTED: calls COMMAND NAME for each block device that is stacked (WANTED 0), or is a disk (1)
each_device() {
	set +f
	for block in "$root"/sys/block/*; do
		name=${block##*/}
		case $name in loop* | ram* | zram* | sr* | fd* | '*') continue ;; esac
		is_stacked "$name"
		[ $? -ne "$2" ] || "$1" "$name"
	done
	set -f
}

# Lines `DISK ATTRIBUTE VALUE`; sizes in sectors of 512 bytes. The kernel's own serial numbers come first: they are
# the same in every system. A hidden device is a path to an NVMe disk that has several.
disks() { each_device one_disk 1; }

one_disk() {
	first_line "$block/hidden"
	[ "$text" != 1 ] || return 0
	attribute "$1" size "$block/size"
	attribute "$1" number "$block/dev"
	attribute "$1" removable "$block/removable"
	attribute "$1" readonly "$block/ro"
	attribute "$1" model "$block/device/model" "$block/device/name"
	attribute "$1" serial "$block/serial" "$block/device/serial" "$block/device/cid"
	attribute "$1" wwid "$block/wwid" "$block/device/wwid"
	for part in "$block/$1"*; do
		[ -r "$part/partition" ] || continue
		first_line "$part/size"
		size=$text
		first_line "$part/dev"
		printf '%s partition %s %s %s\n' "$1" "${part##*/}" "$size" "$text"
	done
}

# Lines `DEVICE NUMBER SIZE BELOW,BELOW ID NAME` for each device that is stacked, and its partitions; - for what is missing.
# ID and NAME are device mapper's: LVM-…, CRYPT-…, mpath-…, and vg-root.
stacked() {
	each_device one_stacked 0
	stacked_zvols
}

one_stacked() {
	lies_on=
	for below in "$block"/slaves/*; do
		below=${below##*/}
		[ "$below" = '*' ] || lies_on=$lies_on${lies_on:+,}$below
	done
	first_line "$block/dev"
	number=$text
	first_line "$block/size"
	size=$text
	first_line "$block/dm/uuid"
	id=$text
	first_line "$block/dm/name"
	printf '%s %s %s %s %s %s\n' "$1" "${number:--}" "${size:--}" "${lies_on:--}" "${id:--}" "${text:--}"
	for part in "$block/$1"*; do
		[ -r "$part/partition" ] || continue
		first_line "$part/dev"
		printf '%s %s - %s part -\n' "${part##*/}" "${text:--}" "$1"
	done
}

# Lines `zdN - - POOL zvol -`: whose volume it is, from the links /dev/zvol/POOL/…
stacked_zvols() {
	[ -d "$root/dev/zvol" ] || return 0
	links -R "$root/dev/zvol" | sed -n "s|^$root/dev/zvol/\([^/ ]*\)/.* .*/\(zd[0-9]*\)\$|\2 - - \1 zvol -|p"
}

# Lines `KIND UUID DEVICE`, a name or MAJOR:MINOR, for each device of a file system that is mounted and may have several.
file_systems() {
	set +f
	for member in "$root"/sys/fs/btrfs/*/devices/*; do
		uuid=${member%/devices/*}
		[ "$uuid" = "$root/sys/fs/btrfs/*" ] || printf 'btrfs %s %s\n' "${uuid##*/}" "${member##*/}"
	done
	for member in "$root"/sys/fs/bcachefs/*/dev-*; do
		uuid=${member%/dev-*}
		first_line "$member/block/dev"
		[ -z "$text" ] || printf 'bcachefs %s %s\n' "${uuid##*/}" "$text"
	done
	set -f
}

# zpool's list of the pools and their devices.
pools() { command -v zpool >/dev/null && within 20 zpool list -vHP; }

# Lines `DEVICE VG`: also volume groups that are not active.
volume_groups() {
	command -v pvs >/dev/null && within 20 pvs --readonly --noheadings -o pv_name,vg_name
}

# Lines `LINK NAME`: where the links in /dev/disk/by-id (and by-path, …) lead.
disk_links() {
	set +f
	set -- "$root"/dev/disk/by-*/
	set -f
	[ -d "$1" ] || return 0
	links "$@" | while read -r link target; do
		link=${link#"$root"}
		printf '%s/%s %s\n' "${link%%//*}" "${link##*//}" "${target##*/}"
	done
}

# Lines `MAJOR:MINOR SERIAL` from udev, for disks whose kernel driver gives no serial number. Where there is no udev, from
# the disk's own page 80h, behind the four bytes of its head (SPC-5, 7.7.18). The second file is for tail's head lines.
udev_serials() {
	set +f
	if [ -d "$root/run/udev/data" ]; then
		grep -H '^E:ID_SERIAL_SHORT=' "$root"/run/udev/data/b* |
			sed -n 's|^[^:]*/b\([0-9]*:[0-9]*\):E:ID_SERIAL_SHORT=|\1 |p'
	else
		tail -c +5 "$root"/sys/block/*/device/vpd_pg80 /dev/null | while read -r head file rest || [ -n "$head" ]; do
			case $head in
			'==>') first_line "${file%/device/vpd_pg80}/dev" ;;
			?*) printf '%s %s\n' "$text" "$head${file:+ $file}${rest:+ $rest}" ;;
			esac
		done
	fi
	set -f
}

block_devices() {
	command -v lsblk >/dev/null &&
		within 20 lsblk --json --bytes --exclude 1,7 --output NAME,KNAME,TYPE,SIZE,FSTYPE,LABEL,UUID,MOUNTPOINT
}

signatures() { command -v blkid >/dev/null && within 20 blkid; }

# Lines `DISK STATUS TEXT`: what smartctl says of each disk's health, and its exit status. A disk that sleeps is not woken.
# All are asked at once, and after the time is up nobody waits for one that hangs.
health() {
	command -v smartctl >/dev/null || return 0
	each_device ask_health 1 | within 15 cat
}

ask_health() {
	case $1 in mmcblk* | vd[a-z]* | xvd*) return ;; esac # they have no such report
	first_line "$block/hidden"
	[ "$text" = 1 ] || one_health "$1" &
}

one_health() {
	said=$(within 10 smartctl -n standby -H "/dev/$1")
	status=$?
	found=
	while read -r text; do
		case $text in
		*'self-assessment test result: '* | 'SMART Health Status: '* | '- '*) found="$found${found:+; }$text" ;;
		esac
	done <<END
$said
END
	printf '%s %s %s\n' "$1" "$status" "$found"
}
