#!/bin/sh
# leave-installer.sh ROOT reboot|kexec
# Runs in the installer: unmounts the new root, exports ZFS pools (so that they import without force), and two seconds
# later, so that the caller hears how this ended, reboots or starts what kexec has loaded. Prints nothing on success.
set -eu

case $#-${2-} in 2-reboot | 2-kexec) ;; *)
	echo "usage: leave-installer.sh ROOT reboot|kexec" >&2
	exit 1
	;;
esac
sync
if mountpoint -q "$1"; then
	umount -R "$1"
fi
swapoff -a
if command -v zpool >/dev/null && [ -n "$(zpool list -H -o name 2>/dev/null)" ]; then
	zpool export -a
fi
systemd-run --quiet --on-active=2s systemctl "$2"
