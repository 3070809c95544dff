# shellcheck shell=sh
# An msdos partition table: a boot partition, and a volume group with a volume for the root.

# LVM makes its device files itself: this udev has no rules for them.
export DM_DISABLE_UDEV=1
modprobe dm-mod

make_storage() {
	sfdisk --quiet "$1" <<'END'
label: dos
size=192MiB, type=c, bootable
type=8e
END
	udevadm settle --timeout=30
	udevadm wait --timeout=30 "$1-part1" "$1-part2"
	mkfs.vfat -n BOOT "$1-part1"
	@tools@/bin/lvm pvcreate -qq -y "$1-part2"
	@tools@/bin/lvm vgcreate -qq -y pool "$1-part2"
	@tools@/bin/lvm lvcreate -qq -y -W n -Z n -n root -l 100%FREE pool
	mkfs.ext4 -q -F -L nixos /dev/pool/root
}

mount_storage() {
	@tools@/bin/lvm vgchange -qq -a y pool
	mount_once /dev/pool/root /mnt -t ext4
	mount_once "$1-part1" /mnt/boot -t vfat -o umask=0077
}

# What an earlier try has made holds the partition.
close_storage() {
	@tools@/bin/lvm vgchange -qq -a n pool 2>/dev/null || true
}
