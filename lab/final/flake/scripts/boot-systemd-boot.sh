#!@busybox@/bin/sh
# shellcheck shell=sh
# switch-to-configuration boot
# Makes the disk boot this system by systemd-boot. With NIXOS_INSTALL_BOOTLOADER=1 also puts that on the disk, and into
# the firmware's boot entries. The files have the names that NixOS gives them (systemd-boot-builder.py). The lab's system
# knows no other verb.
set -eu
PATH=@busybox@/bin
export PATH

[ "${1-}" = boot ] || {
	echo "usage: switch-to-configuration boot" >&2
	exit 1
}
grep -q '^[^ ]* /boot ' /proc/mounts || {
	echo "switch-to-configuration: nothing is mounted at /boot" >&2
	exit 1
}
if [ "${NIXOS_INSTALL_BOOTLOADER-}" = 1 ]; then
	# bootctl takes the boot loader from /usr, and follows no link there; here /usr is one.
	unshare -m sh -eu <<'END'
mount -t tmpfs tmpfs /mnt
for folder in boot dev proc sys usr; do
	mkdir "/mnt/$folder"
	mount --rbind "$(readlink -f "/$folder")" "/mnt/$folder"
done
ln -s usr/lib64 /mnt/lib64
mkdir /mnt/etc
cp /etc/os-release /mnt/etc/os-release
chroot /mnt /usr/bin/bootctl --esp-path=/boot install
END
fi

# place FILE: a file comes beside its place and is then renamed: the disk can boot even if this stops half-way.
place() {
	cat >"$1.new"
	mv "$1.new" "$1"
}
mkdir -p /boot/EFI/nixos /boot/loader/entries
name=$(basename @toplevel@ | cut -c 1-32)
for file in kernel initrd; do
	place "/boot/EFI/nixos/$name-$file.efi" <"@toplevel@/$file"
done
place /boot/loader/entries/nixos-generation-1.conf <<END
title NixOS
sort-key nixos
version Generation 1 NixOS lab
linux /EFI/nixos/$name-kernel.efi
initrd /EFI/nixos/$name-initrd.efi
options init=@toplevel@/init $(cat @toplevel@/kernel-params)
END
place /boot/loader/loader.conf <<END
timeout 0
default nixos-generation-1.conf
editor 0
END
sync
