#!/bin/busybox sh
# /init of the origin's initrd: loads the modules that the disk needs, and starts the system on it. Debian's own initrd is
# made by programs of the machine's architecture, which cannot run here.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do modprobe "$module"; done </modules
tries=0
until device=$(findfs LABEL=origin-root); do
	tries=$((tries + 1))
	[ "$tries" -lt 60 ] || exit 1 # the kernel panics, and reboots
	sleep 1
done
mount -t ext4 -o ro "$device" /root || exit 1
umount /proc /sys
mount --move /dev /root/dev
exec switch_root /root /sbin/init
