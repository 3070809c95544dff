#!/bin/sh
# Formats the disk of cottage and mounts it at /mnt, as its layout says. Everything on the disk is lost.
set -eu
disk=@disk@
# shellcheck source=/dev/null
. @storage@
[ -b "$disk" ] || {
	echo "disko: $disk is not there" >&2
	exit 1
}
# Most layouts encrypt nothing: then a key that the operator brings for that is only checked.
key=/run/keys/disk
if [ -s "$key" ]; then
	echo "disko: $key is there: $(stat -c '%u:%g %a, %s bytes' "$key")"
fi
if mountpoint -q /mnt; then
	umount -R /mnt
fi
close_storage
for partition in "$disk"-part*; do
	[ ! -b "$partition" ] || wipefs --all --quiet "$partition"
done
wipefs --all --quiet "$disk"
# udev still reads what was wiped. While it holds a partition open, the kernel does not read the new table.
udevadm settle --timeout=30
make_storage "$disk"
# Let udev see the new labels and types.
udevadm settle --timeout=30
@mountScript@
