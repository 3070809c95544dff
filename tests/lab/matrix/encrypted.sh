#!/bin/sh
# encrypted.sh FOLDER: process 1 of a User-mode Linux whose root is that of the machine that tests. Makes the disk by the
# layout's disko script, mounts it again by its mount script, and puts a system on it that says what its root is.
folder=$1
PATH=$folder/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
set -eu
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
for module in "$folder"/modules/*; do
	busybox insmod "$module"
done
mkdir /run/keys
cp "$folder/brought/secrets/key" /run/keys/disk
ln -s /dev/ubda /run/disk
ln -s /dev/ubda1 /run/disk-part1
ln -s /dev/ubda2 /run/disk-part2

sh "$folder/disko.sh"
umount -R /mnt
cryptsetup close root
sh "$folder/disko-mount.sh"
sh "$folder/disko-mount.sh"
echo "MOUNTED $(findmnt -rnv -o TARGET,FSTYPE,SOURCE | grep '^/mnt' | tr '\n' ' ')"
mkdir /mnt/bin
cp "$folder/bin/busybox" /mnt/bin
cat >/mnt/init <<'END'
#!/bin/busybox sh
/bin/busybox cat /proc/*/comm >/comms
/bin/busybox grep -c -e sshd -e ld-linux /comms
echo "STARTED $(/bin/busybox grep ' / ext4' /proc/mounts)"
/bin/busybox poweroff -f
END
chmod 0755 /mnt/init
umount -R /mnt
cryptsetup close root
echo MADE
busybox poweroff -f
