#!@busybox@/bin/sh
# shellcheck shell=sh
# Makes the root file system fit this system. Runs at each boot and, in the chroot, at the install; can be repeated.
set -eu
umask 022
PATH=@busybox@/bin
export PATH

mkdir -p /boot /dev /etc/ssh/authorized_keys.d /etc/systemd /home /mnt /proc /root /run /sys /tmp /var/empty \
	/var/lib /var/log /var/tmp
chmod 0700 /root
chmod 1777 /tmp /var/tmp
ln -sfn ../run /var/run

ln -sfn @userland@/usr /usr
for folder in bin lib lib64 sbin; do
	ln -sfn "usr/$folder" "/$folder"
done

# Links, except where a real file is needed: sshd checks the owner and mode of every folder above its keys, and these
# folders also hold files of the machine.
for file in fstab hosts hostname nsswitch.conf os-release ssh/sshd_config systemd/journald.conf.d \
	systemd/network systemd/system; do
	ln -sfn "@etc@/$file" "/etc/$file"
done
for file in group passwd shadow ssh/authorized_keys.d/root; do
	cp "@etc@/$file" "/etc/$file.new"
	mv "/etc/$file.new" "/etc/$file"
done
chmod 0444 /etc/group /etc/passwd /etc/ssh/authorized_keys.d/root
chmod 0400 /etc/shadow
hostname -F /etc/hostname

ln -sfn @toplevel@ /run/current-system
