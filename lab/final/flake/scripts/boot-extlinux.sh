#!@busybox@/bin/sh
# shellcheck shell=sh
# switch-to-configuration boot
# Makes the disk boot this system by extlinux. With NIXOS_INSTALL_BOOTLOADER=1 also puts the boot loader on the disk. The lab's
# system knows no other verb.
set -eu
PATH=@busybox@/bin
export PATH

[ "${1-}" = boot ] || {
	echo "usage: switch-to-configuration boot" >&2
	exit 1
}
prefix=/boot
if grep -q ' /boot ' @etc@/fstab; then
	grep -q '^[^ ]* /boot ' /proc/mounts || {
		echo "switch-to-configuration: nothing is mounted at /boot" >&2
		exit 1
	}
	prefix=
fi
if [ "${NIXOS_INSTALL_BOOTLOADER-}" = 1 ]; then
	@userland@/usr/lib64/ld-linux-x86-64.so.2 --library-path @userland@/usr/lib/x86_64-linux-gnu \
		@bootloader@/extlinux --install /boot
	dd if=@bootloader@/@bootCode@ of=@disk@ bs=440 count=1 conv=notrunc 2>/dev/null
fi

# Written beside its place and then renamed: the disk can boot even if this stops half-way.
for file in kernel initrd; do
	cp "@toplevel@/$file" "/boot/$file.new"
	[ "$file" = kernel ] || [ ! -e @toplevel@/append-initrd-secrets ] || @toplevel@/append-initrd-secrets "/boot/$file.new"
	mv "/boot/$file.new" "/boot/$file"
done
cat >/boot/syslinux.new <<END
DEFAULT nixos
LABEL nixos
  LINUX $prefix/kernel
  INITRD $prefix/initrd
  APPEND init=@toplevel@/init $(cat @toplevel@/kernel-params)
END
mv /boot/syslinux.new /boot/syslinux.cfg
sync
