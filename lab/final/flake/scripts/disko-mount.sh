#!/bin/sh
# Mounts the file systems of cottage at /mnt, without formatting; can be repeated.
set -eu
disk=@disk@
if ! mountpoint -q /mnt; then
	mkdir -p /mnt
	mount -t ext4 "$disk-part2" /mnt
fi
if ! mountpoint -q /mnt/boot; then
	mkdir -p /mnt/boot
	mount -t vfat -o umask=0077 "$disk-part1" /mnt/boot
fi
