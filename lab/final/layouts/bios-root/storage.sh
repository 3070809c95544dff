# shellcheck shell=sh
# A GPT: a partition for a BIOS boot loader that wants one, and a root, which has /boot.

make_storage() {
	sfdisk --quiet "$1" <<'END'
label: gpt
size=1MiB, type=21686148-6449-6E6F-744E-656564454649
type=linux, attrs=LegacyBIOSBootable
END
	udevadm settle --timeout=30
	udevadm wait --timeout=30 "$1-part1" "$1-part2"
	mkfs.ext4 -q -F -L nixos "$1-part2"
}

mount_storage() { mount_once "$1-part2" /mnt -t ext4; }

close_storage() { :; }
