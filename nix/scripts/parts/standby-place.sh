# shellcheck shell=sh disable=SC2034,SC2154 # standby.sh has the other half of these variables
# standby-place.sh: a part of standby.sh: where a standby goes, or is, in the new root. If it can go nowhere,
# `none WHY` says so and ends the script.

# mounted DIR: sets `fstype` and `source` of what is mounted exactly there; returns 1 if nothing is
mounted() {
	# shellcheck disable=SC2046 # two words
	set -- $(findmnt -rnv -o FSTYPE,SOURCE -M "$1" 2>/dev/null | tail -n 1)
	[ $# -eq 2 ] || return 1
	fstype=$1
	source=$2
}

extlinux_can() { case $1 in vfat | ext2 | ext3 | ext4) ;; *) return 1 ;; esac }

# Sets `boot`, the folder; `source` and `fstype`, its device and type; `prefix`, its path in its own file system.
find_boot() {
	prefix=
	if [ "$firmware" = UEFI ]; then
		for boot in "$root/boot/efi" "$root/efi" "$root/boot"; do
			if mounted "$boot" && [ "$fstype" = vfat ]; then return; fi
		done
		none "no EFI system partition is mounted below $root"
	fi
	boot=$root/boot
	if mounted "$boot"; then
		if extlinux_can "$fstype"; then return; fi
	elif mounted "$root" && extlinux_can "$fstype"; then
		prefix=/boot
		(umask 022 && mkdir -p "$boot")
		return
	fi
	for boot in "$root/boot/efi" "$root/efi"; do
		if mounted "$boot" && extlinux_can "$fstype"; then return; fi
	done
	none "extlinux can boot from no file system below $root"
}

# Sets `partition`, the folder of `source` in sysfs.
find_partition() {
	partition=$(readlink -f "$live$source")
	partition=$(readlink -f "$live/sys/class/block/${partition##*/}") || none "$source is not a block device"
}

# Is it a partition of a disk? Firmware and boot code do not know arrays and volumes.
is_on_disk() {
	of=${partition%/*}
	case ${of##*/} in md*) return 1 ;; esac
	[ -r "$partition/partition" ]
}

# Does a firmware see the file system on its disks? A mirror with its superblock behind it looks like that (md(4)).
is_mirror() {
	[ "$(cat "$partition/md/level" 2>/dev/null)" = raid1 ] &&
		case $(cat "$partition/md/metadata_version") in 0.90 | 1.0) ;; *) return 1 ;; esac
}

is_on_paths() { case $(cat "$partition/dm/uuid" 2>/dev/null) in part*-mpath-*) ;; *) return 1 ;; esac }

require_readable() {
	[ "$(cat "$live/sys/firmware/efi/fw_platform_size" 2>/dev/null)" != 32 ] ||
		none "the firmware has 32 bits, and the installer's kernel 64"
	find_partition
	is_on_disk || is_mirror || is_on_paths || none "the firmware cannot read $source: it is not a partition of a disk"
}

# Sets `disk`, `number` of the partition, and `boot_code`, the file with the disk's first bytes.
find_disk() {
	find_partition
	is_on_disk || none "$source is not a partition of a disk"
	number=$(cat "$partition/partition")
	disk=${partition%/*}
	disk=/dev/${disk##*/}
	table=$(blkid -p -s PTTYPE -o value "$live$disk") || true
	case $table in
	dos)
		[ "$number" -le 4 ] || none "$source is not a primary partition"
		boot_code=$tools/mbr.bin
		;;
	gpt) boot_code=$tools/gptmbr.bin ;;
	*) none "$disk has neither a GPT nor an msdos partition table" ;;
	esac
	[ -x "$tools/extlinux" ] && [ -f "$boot_code" ] || none "the image brings no extlinux"
}

# Sets `loader`, the place of the EFI boot loader.
find_loader() {
	case $(uname -m) in
	x86_64) loader=BOOTX64.EFI ;;
	aarch64) loader=BOOTAA64.EFI ;;
	riscv64) loader=BOOTRISCV64.EFI ;;
	*) none "the name of the EFI boot loader for $(uname -m) is not known" ;;
	esac
	loader=$boot/EFI/BOOT/$loader
	[ -f "$tools/boot.efi" ] || none "the image brings no EFI boot loader"
	require_readable
}

# find_all: sets all that says where a standby is started from
find_all() {
	case $root in /?*) ;; *) usage ;; esac
	mkdir -p "$live/run/holdfast"
	work=$(mktemp -d "$live/run/holdfast/standby.XXXXXX")
	firmware=BIOS
	[ ! -d "$live/sys/firmware/efi" ] || firmware=UEFI

	findmnt -Rrnv -o FSTYPE,SOURCE "$root" >"$work/mounts" && [ -s "$work/mounts" ] || none "nothing is mounted at $root"
	find_boot
	device=$source
	boot_type=$fstype
	if [ "$firmware" = UEFI ]; then find_loader; else find_disk; fi
	ours=$boot/holdfast
	efi=$boot/EFI/holdfast/standby.efi
	if [ "$firmware" = UEFI ]; then
		started_at=$efi
		known=$efi.extra.d/standby.cred
	else
		started_at=$ours/starter
		known=$ours/known
	fi
}
