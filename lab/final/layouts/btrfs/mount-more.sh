# shellcheck shell=sh disable=SC2154 # the initrd's init sets it
# In the initrd, once the root is mounted: the store is a subvolume of its own.
mkdir -p /sysroot/nix
mount -t btrfs -o subvol=nix,noatime "$device" /sysroot/nix || fail "the store does not mount"
