#!/bin/sh
# leave-installer.sh ROOT reboot|kexec
# Runs in the installer: unmounts the new root, exports ZFS pools (so that they import without force), and two seconds
# later, so that the caller hears how this ended, reboots or starts what kexec has loaded. Prints nothing on success.
# A hardware clock that is more than a day behind is set first: the next kernel begins with its time. A day, since a
# hardware clock may keep a local time.
set -eu

live=${HOLDFAST_ROOT:-} # a folder that stands for the installer's root, in tests

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
if rtc=$(cat "$live/sys/class/rtc/rtc0/since_epoch" 2>/dev/null) && [ $(($(date +%s) - rtc)) -gt 86400 ]; then
	hwclock -w -u >&2 || echo "leave-installer: the hardware clock is behind, and could not be set" >&2
fi
systemd-run --quiet --on-active=2s systemctl "$2"
