#!/bin/sh
# Mounts the file systems of cottage at /mnt, without formatting; can be repeated.
set -eu
disk=@disk@
# shellcheck source=/dev/null
. @storage@

# mount_once DEVICE PLACE OPTION...
mount_once() {
	device=$1
	place=$2
	shift 2
	mountpoint -q "$place" || {
		mkdir -p "$place"
		mount "$@" "$device" "$place"
	}
}
mount_storage "$disk"
