# shellcheck shell=sh
# An msdos partition table: a boot partition with ext4, and a root.

make_storage() {
	sfdisk --quiet "$1" <<'END'
label: dos
size=256MiB, type=83, bootable
type=83
END
	udevadm settle --timeout=30
	udevadm wait --timeout=30 "$1-part1" "$1-part2"
	mkfs.ext4 -q -F -L BOOT "$1-part1"
	mkfs.ext4 -q -F -L nixos "$1-part2"
}

mount_storage() {
	mount_once "$1-part2" /mnt -t ext4
	mount_once "$1-part1" /mnt/boot -t ext4
}

close_storage() { :; }
