#!/bin/sh
# Makes storage on several disks, in the lab's origin: a volume group, a RAID array, a btrfs, and a disk with two paths,
# each with a file system that is mounted. WWN is the world-wide name of that disk, without 0x.
#
#   storage.sh WWN
#
# It needs the tools of lab/storage.py, and its disks.
set -euf
WWN=$1

# disk SERIAL: prints the name of the disk.
disk() { basename "$(readlink -f "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_$1")"; }

ldconfig
systemctl daemon-reload
udevadm control --reload
for module in dm-mod dm-multipath dm-service-time raid1 btrfs; do modprobe "$module"; done
udevadm trigger --subsystem-match=block --action=change
udevadm settle --timeout=60

mkdir -p /srv/volume /srv/array /srv/btrfs /srv/paths

set -- "/dev/$(disk LVM0001)" "/dev/$(disk LVM0002)"
pvcreate -qq -y "$@"
vgcreate -qq -y store "$@"
# On the first disk alone: the second has nothing of it.
lvcreate -qq -y -n home -L 64M store "$1"
mkfs.ext4 -q /dev/store/home
mount /dev/store/home /srv/volume

set -- "/dev/$(disk RAID001)" "/dev/$(disk RAID002)"
mdadm --create /dev/md0 --level=1 --raid-devices=2 --metadata=1.2 --homehost=any --name=mirror --run --assume-clean "$@" 2>&1
mkfs.ext4 -q /dev/md0
mount /dev/md0 /srv/array

set -- "/dev/$(disk BTRFS01)" "/dev/$(disk BTRFS02)"
mkfs.btrfs -q -f -L pool -m raid1 -d single "$@"
mount "$1" /srv/btrfs

# Only the disk with two paths: multipath would take the others too.
printf '%s {\n\t%s\n}\n' defaults 'find_multipaths no' blacklist 'wwid ".*"' \
	blacklist_exceptions "wwid \"3$WWN\"" >/etc/multipath.conf
multipath -v2
udevadm settle --timeout=60
mkfs.ext4 -q "/dev/mapper/3$WWN"
mount "/dev/mapper/3$WWN" /srv/paths
