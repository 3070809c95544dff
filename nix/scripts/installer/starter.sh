#!/bin/sh
# starter.sh: /init of the starter, the small system in RAM that the standby's boot partition starts (standby.sh).
# It finds the installer's kernel, initrd and hand-over on the new root, checks their digests, and starts them by kexec.
# What to find comes beside it in the initrd, from standby.sh: /.extra/credentials/standby.cred, where systemd-stub(7)
# puts a file of standby.efi.extra.d; for BIOS it is a cpio archive of its own. A line for each word:
#   type TYPE       of the file system; ext4, xfs, btrfs, f2fs, vfat, zfs, …
#   id UUID         of the file system; for ZFS the pool's guid
#   dataset NAME    for ZFS
#   folder PATH     in that file system (btrfs: from its top)
#   kernel SHA256, initrd SHA256, handover SHA256   the files in it; the last is called handover.FIRST-12-DIGITS
#   line WORDS      the installer's command line
# The file system is mounted read-only. Its journal is replayed: without that, the last files before a power cut may
# not be seen. The hand-over is appended to the initrd in RAM.
# Whatever is wrong is said on the console, and the machine reboots: PID 1 ends, so the kernel panics (`panic=`). A
# guard reboots it if anything hangs.
# Needs busybox, modprobe, blkid and kexec; uses mdadm, lvm, btrfs, zpool and mount.zfs if they are there.
set -uf
umask 077
export LC_ALL=C

live=${HOLDFAST_ROOT:-} # a folder that stands for the starter's root, in tests
guard_s=600             # until the guard reboots; long: a slow disk reads the installer, and its digest is computed
search_s=180            # until the file system has to be there
degraded_s=20           # until a RAID array is started without the members that are missing

# What no device asks for. What the starter does not have is left out.
modules="sd_mod mmc_block dm_mod dm_mirror dm_raid dm_thin_pool md_mod raid0 raid1 raid10 raid456 crc32c_generic"

known=$live/.extra/credentials/standby.cred
disk=$live/run/disk
ram=$live/run/ram

say() { echo "<3>holdfast standby: $*" >>"$live/dev/kmsg"; }

give_up() {
	say "$*: the machine reboots"
	exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

guard() {
	sleep "$guard_s"
	say "nothing was started within $guard_s s: the machine reboots"
	sync
	reboot -f
	echo b >"$live/proc/sysrq-trigger"
}

begin() {
	mkdir -p "$live/proc" "$live/sys" "$live/dev" "$live/run"
	mount -t proc proc "$live/proc"
	mount -t sysfs sysfs "$live/sys"
	mount -t devtmpfs devtmpfs "$live/dev"
	mount -t tmpfs -o size=90% tmpfs "$live/run"
	mkdir -p "$disk" "$ram" "$live/run/mdadm"
	# Without `panic=` on the command line, the kernel would stay where it panicked.
	[ "$(cat "$live/proc/sys/kernel/panic")" != 0 ] || echo 30 >"$live/proc/sys/kernel/panic"
	guard </dev/null &
	# `command -v` prints no path where busybox' shell knows its commands by itself. The kernel needs one: it loads the
	# character sets of vfat.
	which modprobe >"$live/proc/sys/kernel/modprobe"
}

# matches TEXT SET LONGEST: has TEXT only characters of SET, a part of a bracket, and not too many of them?
matches() {
	# shellcheck disable=SC2254 # the set is a pattern
	case $1 in '' | *[!$2]*) return 1 ;; esac
	[ "${#1}" -le "$3" ]
}

is_digest() { matches "$1" 0-9a-f 64 && [ "${#1}" = 64 ]; }

# Sets a variable for each word, and nothing else: what is read is never run.
read_known() {
	[ -f "$known" ] || give_up "nothing tells what to start"
	type='' id='' dataset='' folder='' kernel='' initrd='' handover='' line=''
	while read -r word value; do
		case $word in
		type) type=$value ;;
		id) id=$value ;;
		dataset) dataset=$value ;;
		folder) folder=$value ;;
		kernel) kernel=$value ;;
		initrd) initrd=$value ;;
		handover) handover=$value ;;
		line) line=$value ;;
		esac
	done <"$known"
	case $folder in /*) ;; *) folder= ;; esac
	case $folder in *..*) folder= ;; esac
	matches "$type" a-z0-9 16 && matches "$id" A-Za-z0-9- 64 && matches "$folder" A-Za-z0-9._/@:+- 512 &&
		is_digest "$kernel" && is_digest "$initrd" && is_digest "$handover" && [ -n "$line" ] ||
		give_up "what tells what to start is incomplete"
	[ "$type" != zfs ] || matches "$dataset" A-Za-z0-9._/:- 256 || give_up "the name of the dataset is invalid"
	handover_name=handover.${handover%"${handover#????????????}"}
}

# Loads the drivers of what the kernel has found so far. New drivers find more.
load_drivers() {
	find "$live/sys/devices" -name modalias -exec cat {} + 2>/dev/null | sort -u >"$ram/found"
	if cmp -s "$ram/found" "$ram/loaded"; then return; fi
	xargs modprobe -qab <"$ram/found" 2>/dev/null
	mv "$ram/found" "$ram/loaded"
}

# Puts together what file systems may lie on. Arrays stay read-only until something writes to them. They get one member
# after the other, as udev does it: what was assembled without a late one would not take it.
assemble() {
	if has mdadm; then
		while read -r _ _ _ name; do
			case $name in '' | name | md*) continue ;; esac
			MDADM_NO_UDEV=1 mdadm --incremental --quiet "/dev/$name"
		done <"$live/proc/partitions"
		[ "$waited" -lt "$degraded_s" ] || MDADM_NO_UDEV=1 mdadm --incremental --run --scan --quiet
	fi
	if has lvm; then
		lvm vgchange -a y --sysinit --quiet --config 'activation{udev_sync=0 udev_rules=0}
			devices{use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source="none"}'
	fi
	if has btrfs; then btrfs device scan; fi
} >/dev/null 2>&1

leave() {
	umount "$disk"
	[ "$type" != zfs ] || zpool export "${dataset%%/*}"
} 2>/dev/null

# mount_from DEVICE: mounts it read-only. An array or a disk that cannot be written to is mounted without its journal
mount_from() {
	case $type in
	ext[234]) unreplayed=ro,noload ;;
	xfs) unreplayed=ro,norecovery ;;
	btrfs)
		mount -t btrfs -o ro,subvolid=5 "$1" "$disk"
		return
		;;
	zfs)
		mount.zfs -o ro,zfsutil "$1" "$disk" || mount.zfs -o ro "$1" "$disk"
		return
		;;
	*) unreplayed=ro ;;
	esac
	mount -t "$type" -o ro "$1" "$disk" || mount -t "$type" -o "$unreplayed" "$1" "$disk"
} 2>/dev/null

# right DIGEST NAME: is this file on the disk, and as it was written?
right() {
	found=$(sha256sum "$disk$folder/$2" 2>/dev/null | cut -d ' ' -f 1)
	[ "$found" = "$1" ] && return
	if [ -n "$found" ]; then say "$2 on $device has changed"; else say "$2 is not on $device"; fi
	return 1
}

# look_on DEVICE: leaves it mounted if the installer is there
look_on() {
	device=$1
	mount_from "$device" || return 1
	if right "$kernel" kernel && right "$initrd" initrd && right "$handover" "$handover_name"; then return; fi
	leave
	tried="$tried $device "
	return 1
}

look_everywhere() {
	if [ "$type" = zfs ]; then
		case $tried in *" $dataset "*) return 1 ;; esac
		zpool import -N -o readonly=on -o cachefile=none -f "$id" >/dev/null 2>&1
		look_on "$dataset"
		return
	fi
	while read -r _ _ _ name; do
		device=$live/dev/$name
		[ -e "$device" ] || continue
		case $tried in *" $device "*) continue ;; esac
		[ "$(blkid -p -s UUID -o value "$device" 2>/dev/null)" = "$id" ] || continue
		if look_on "$device"; then return; fi
	done <"$live/proc/partitions"
	return 1
}

search() {
	say "looks for the installer on the file system $id ($type)"
	waited=0
	tried=
	while :; do
		load_drivers
		assemble
		if look_everywhere; then return; fi
		[ "$waited" -lt "$search_s" ] || give_up "the installer was not found within $search_s s"
		sleep 1
		waited=$((waited + 1))
	done
}

# kexec_load copies faster than the file-based call, but a locked-down kernel allows only that one.
load() {
	cat "$disk$folder/initrd" "$disk$folder/$handover_name" >"$ram/initrd" ||
		give_up "the memory has no room for the installer's initrd"
	set -- --load "$disk$folder/kernel" --no-checks --initrd="$ram/initrd" --command-line="$line"
	kexec --kexec-syscall "$@" || kexec --kexec-syscall-auto "$@" || give_up "kexec cannot load the installer"
}

begin
read_known
# shellcheck disable=SC2086 # several words
modprobe -qab $modules "$type" 2>/dev/null
[ ! -w "$live/sys/module/md_mod/parameters/start_ro" ] || echo 1 >"$live/sys/module/md_mod/parameters/start_ro"
search
load
leave
say "starts the installer of $device"
kexec -e
give_up "kexec did not start the installer"
