# shellcheck shell=sh
# An msdos partition table: a boot partition, and a pool with a dataset for the root and one for the store.

zpool() { @tools@/bin/zpool "$@"; }
zfs() { @tools@/bin/zfs "$@"; }

make_storage() {
	sfdisk --quiet "$1" <<'END'
label: dos
size=256MiB, type=c, bootable
type=83
END
	udevadm settle --timeout=30
	udevadm wait --timeout=30 "$1-part1" "$1-part2"
	mkfs.vfat -n BOOT "$1-part1"
	zpool create -f -R /mnt -o ashift=12 -O acltype=posixacl -O xattr=sa -O mountpoint=none zroot "$1-part2"
	zfs create -o mountpoint=legacy zroot/root
	zfs create -o mountpoint=legacy zroot/nix
}

# As disko does it: without force.
mount_storage() {
	zpool list zroot >/dev/null 2>&1 || zpool import -l -R /mnt zroot
	mount_once zroot/root /mnt -t zfs
	mount_once zroot/nix /mnt/nix -t zfs
	mount_once "$1-part1" /mnt/boot -t vfat -o umask=0077
}

# What an earlier try has made holds the partition.
close_storage() { zpool destroy -f zroot 2>/dev/null || true; }
