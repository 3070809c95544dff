#!/bin/busybox sh
# shellcheck shell=sh disable=SC1091 # a layout brings parts of it
# PID 1 of the initrd: loads the modules, mounts the root, and starts the system that `init=` names on it.
/bin/busybox --install -s /bin
PATH=/bin
export PATH

# Ends PID 1: the kernel panics, and `panic=` makes it reboot.
fail() {
	echo "initrd: $*" >/dev/console
	exit 1
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /run

while read -r module; do
	insmod "/modules/$module" || echo "initrd: $module does not load" >/dev/console
done </modules/order

read -r parameters </proc/cmdline
init=
root=
type=
flags=
for parameter in $parameters; do
	case $parameter in
	init=*) init=${parameter#init=} ;;
	root=*) root=${parameter#root=} ;;
	rootfstype=*) type=${parameter#rootfstype=} ;;
	rootflags=*) flags=,${parameter#rootflags=} ;;
	esac
done
[ -n "$init" ] && [ -n "$root" ] || fail "no init= or root= in: $parameters"

# find_root: sets `device`
find_root() {
	[ ! -e /find-root.sh ] || . /find-root.sh
	case $root in
	/dev/*) device=$root && [ -b "$device" ] ;;
	*=*) device=$(findfs "$root" 2>/dev/null) ;;
	# A dataset of ZFS: its pool has to be imported.
	*) device=$root && [ -d "/proc/spl/kstat/zfs/${root%%/*}" ] ;;
	esac
}
tries=0
until find_root; do
	tries=$((tries + 1))
	[ "$tries" -lt 100 ] || fail "no disk with $root after 10 s; there are: $(ls /dev/vd* 2>/dev/null)"
	sleep 0.1
done
mount -t "$type" -o "rw,relatime$flags" "$device" /sysroot || fail "$device ($root) does not mount"
[ ! -e /mount-more.sh ] || . /mount-more.sh
[ -x "/sysroot$init" ] || fail "$root has no $init"
for folder in dev proc run sys; do
	mkdir -p "/sysroot/$folder"
	mount -o move "/$folder" "/sysroot/$folder"
done
exec switch_root /sysroot "$init"
