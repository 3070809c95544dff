# shellcheck shell=sh
# In the initrd, once the root is mounted: the store is a dataset of its own.
mkdir -p /sysroot/nix
mount -t zfs zroot/nix /sysroot/nix || fail "the store does not mount"
