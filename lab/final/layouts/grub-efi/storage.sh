# shellcheck shell=sh
# A GPT: the EFI system partition, and a root.

make_storage() {
	sfdisk --quiet "$1" <<'END'
label: gpt
size=500MiB, type=uefi
type=linux
END
	udevadm settle --timeout=30
	udevadm wait --timeout=30 "$1-part1" "$1-part2"
	mkfs.vfat -F 32 -n BOOT "$1-part1"
	mkfs.ext4 -q -F -L nixos "$1-part2"
}

mount_storage() {
	mount_once "$1-part2" /mnt -t ext4
	mount_once "$1-part1" /mnt/boot -t vfat -o umask=0077
}

close_storage() { :; }
