#!/bin/sh
# leave-installer.sh ROOT
# Runs in the installer: unmounts the new root, exports ZFS pools (so that they import without force), and reboots
# two seconds later, so that the caller hears how this ended. Prints nothing if all is well.
set -eu

[ $# -eq 1 ] || {
	echo "usage: leave-installer.sh ROOT" >&2
	exit 1
}
sync
if mountpoint -q "$1"; then
	umount -R "$1"
fi
swapoff -a
if command -v zpool >/dev/null && [ -n "$(zpool list -H -o name 2>/dev/null)" ]; then
	zpool export -a
fi
systemd-run --quiet --on-active=2s systemctl reboot
