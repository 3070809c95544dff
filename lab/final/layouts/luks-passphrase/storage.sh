# shellcheck shell=sh
# An msdos partition table: a boot partition, and an encrypted root.

# cryptsetup makes its device files itself: this udev has no rules for them.
export DM_DISABLE_UDEV=1
key=/run/keys/disk
modprobe dm-crypt

make_storage() {
	sfdisk --quiet "$1" <<'END'
label: dos
size=384MiB, type=83, bootable
type=83
END
	udevadm settle --timeout=30
	udevadm wait --timeout=30 "$1-part1" "$1-part2"
	mkfs.ext4 -q -F -L BOOT "$1-part1"
	# The lab's keys are random, and without KVM it would take long to derive from one as from a passphrase.
	@tools@/bin/cryptsetup luksFormat --batch-mode --type luks2 --uuid @uuid@ \
		--pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file "$key" "$1-part2"
	open_root "$1"
	mkfs.ext4 -q -F -L nixos /dev/mapper/root
}

open_root() { [ -b /dev/mapper/root ] || @tools@/bin/cryptsetup open --key-file "$key" "$1-part2" root; }

mount_storage() {
	open_root "$1"
	mount_once /dev/mapper/root /mnt -t ext4
	mount_once "$1-part1" /mnt/boot -t ext4
}

# What an earlier try has made holds the partition.
close_storage() { @tools@/bin/cryptsetup close root 2>/dev/null || true; }
