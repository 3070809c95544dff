#!/bin/sh
# Copies the lab's running origin onto a RAID 1 of two disks, and lets it start from that from now on. Its boot partition
# stays where it is.
#
#   mirror.sh SERIAL SERIAL
#
# It needs the tools of lab/storage.py, and the disks.
set -euf
set -- "/dev/disk/by-id/virtio-$1" "/dev/disk/by-id/virtio-$2"
udevadm wait --timeout=60 "$@"
mdadm --create /dev/md1 --level=1 --raid-devices=2 --metadata=1.2 --homehost=any --name=root --run --assume-clean \
	"$@" </dev/null
uuid=$(mdadm --detail --export /dev/md1 | sed -n 's/^MD_UUID=//p')
mkfs.ext4 -q /dev/md1
mount /dev/md1 /mnt

systemctl stop tailscaled # its state is not to change while it is copied
cp -ax /. /mnt
printf '/dev/md1 / ext4 errors=remount-ro 0 1\nLABEL=ORIGINBOOT /boot vfat umask=0077 0 0\n' >/mnt/etc/fstab
umount /mnt

echo raid1 >>/usr/share/initramfs-tools/modules.d/lab
cat >/etc/initramfs-tools/hooks/mirror <<'END'
#!/bin/sh
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
copy_exec /usr/sbin/mdadm /usr/sbin
END
cat >/etc/initramfs-tools/scripts/local-top/mirror <<END
#!/bin/sh
[ "\$1" != prereqs ] || exit 0
for try in 1 2 3 4 5 6 7 8 9 10; do
	mdadm --assemble /dev/md1 --uuid=$uuid && exit
	sleep 1
done
END
chmod 755 /etc/initramfs-tools/hooks/mirror /etc/initramfs-tools/scripts/local-top/mirror
# mkinitramfs looks there for the compression, and the lab's origin has lost it.
config=/boot/config-$(uname -r)
echo CONFIG_RD_GZIP=y >"$config"
mkinitramfs -o /boot/mirror.img </dev/null
rm "$config"
sed -i -e 's/initrd.img/mirror.img/' -e 's|root=[^ ]*|root=/dev/md1|' /boot/syslinux.cfg
sync
