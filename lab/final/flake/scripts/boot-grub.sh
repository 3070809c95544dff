#!@busybox@/bin/sh
# shellcheck shell=sh
# switch-to-configuration boot
# Makes the disk boot this system by GRUB. With NIXOS_INSTALL_BOOTLOADER=1 also puts that on the disk: after its menu, as
# NixOS does (install-grub.pl). The lab's system knows no other verb.
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

# place FILE [COMMAND...]: a file comes beside its place and is then renamed: the disk can boot even if this stops half-way.
# Before that, the command gets its name.
place() {
	place=$1
	shift
	(umask 077 && cat >"$place.new")
	[ $# -eq 0 ] || "$@" "$place.new"
	mv "$place.new" "$place"
}
mkdir -p /boot/grub /boot/kernels
place /boot/kernels/kernel <@toplevel@/kernel
if [ -e @toplevel@/append-initrd-secrets ]; then
	place /boot/kernels/initrd @toplevel@/append-initrd-secrets <@toplevel@/initrd
else
	place /boot/kernels/initrd <@toplevel@/initrd
fi
place /boot/grub/grub.cfg <<END
set timeout=0
menuentry "NixOS" {
  linux /kernels/kernel init=@toplevel@/init $(cat @toplevel@/kernel-params)
  initrd /kernels/initrd
}
END
sync
if [ "${NIXOS_INSTALL_BOOTLOADER-}" = 1 ]; then
	target=@grubTarget@
	case $target in
	i386-pc) set -- "$(readlink -f @disk@)" ;;
	# It calls efibootmgr.
	*) set -- --recheck --efi-directory=/boot --bootloader-id=NixOS-boot ;;
	esac
	PATH=@userland@/usr/lib/holdfast-grub/bin:$PATH
	grub-install --target="$target" --directory="@userland@/usr/lib/grub/$target" --boot-directory=/boot "$@"
fi
sync
