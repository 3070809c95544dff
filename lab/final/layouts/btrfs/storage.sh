# shellcheck shell=sh
# An msdos partition table: a boot partition, and a btrfs with a subvolume for the root and one for the store.

make_storage() {
	sfdisk --quiet "$1" <<'END'
label: dos
size=192MiB, type=c, bootable
type=83
END
	udevadm settle --timeout=30
	udevadm wait --timeout=30 "$1-part1" "$1-part2"
	mkfs.vfat -n BOOT "$1-part1"
	@tools@/bin/mkfs.btrfs -q -f -L nixos "$1-part2"
	top=$(mktemp -d)
	mount -t btrfs "$1-part2" "$top"
	@tools@/bin/btrfs subvolume create "$top/root"
	@tools@/bin/btrfs subvolume create "$top/nix"
	umount "$top"
	rmdir "$top"
}

mount_storage() {
	mount_once "$1-part2" /mnt -t btrfs -o subvol=root
	mount_once "$1-part2" /mnt/nix -t btrfs -o subvol=nix,noatime
	mount_once "$1-part1" /mnt/boot -t vfat -o umask=0077
}

close_storage() { :; }
