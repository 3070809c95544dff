#!/bin/sh
# standby.sh put ROOT FOLDER    in the installer, after formatting, with the disks mounted at ROOT
# standby.sh show ROOT          in the installer: does the disk at ROOT boot a standby?
# standby.sh remove ROOT        in the installer, or in the final system with ROOT `/`, once that has its boot loader
#
# The standby is the installer itself, on the new disk. After formatting, and until the final system has its boot
# loader, a machine that loses power boots into it, and is on its tailnet as before. `put` takes FOLDER/kernel,
# FOLDER/initrd and FOLDER/command-line (a line for the kernel), and writes to the boot file system
#   holdfast/kernel holdfast/initrd   of the image
#   holdfast/handover                 what kexec/run would append to the initrd, made from the live installer: the same
#                                     node, run, host keys and secrets, no dead-man, and the mark of the formatted disks
#   UEFI: holdfast/loader.efi EFI/BOOT/BOOT….EFI loader/loader.conf loader/entries/holdfast-standby.conf
#   BIOS: syslinux.cfg, what extlinux installs, the disk's first 440 bytes, and the flag of the partition they start
# The image brings the programs for it: /etc/holdfast/standby/{extlinux,mbr.bin,gptmbr.bin,boot.efi}.
# `put` and `show` print one line: `armed: …`, or `none: WHY` if the disk does not boot a standby. Both exit with 0
# then. `remove` removes exactly what `put` wrote and nobody else has replaced. It overwrites secrets first, and prints
# `removed: …` or `none: …`. All can be repeated. The script may come on standard input, so nothing in it may read that.
set -euf
umask 077
export LC_ALL=C

live=${HOLDFAST_ROOT:-} # a folder that stands for the installer's root, in tests
tools=$live/etc/holdfast/standby
mark='# Holdfast standby: boots the installer until the new system has its boot loader'
margin=100663296 # bytes that stay free for the final system's own kernel and initrd

work=
fresh= # set while a part of a standby is on a disk that had none before

usage() {
	echo "usage: standby.sh put ROOT FOLDER | show ROOT | remove ROOT" >&2
	exit 2
}

none() {
	echo "none: $*"
	exit 0
}

clean_up() {
	status=$?
	trap '' HUP INT PIPE TERM
	trap - EXIT
	if [ -n "$fresh" ]; then take_away "$boot" || true; fi
	if [ -n "$work" ]; then rm -rf "$work"; fi
	exit "$status"
}

bytes() { stat -c %s "$1"; }

digest() { sha256sum | cut -d ' ' -f 1; }

# same FILE COPY: is COPY this file, with or without a few bytes of padding?
same() {
	[ -f "$1" ] && [ -f "$2" ] && [ "$(bytes "$2")" -lt $(($(bytes "$1") + 4)) ] &&
		[ "$(digest <"$1")" = "$(head -c "$(bytes "$1")" "$2" | digest)" ]
}

ours() { [ -f "$1" ] && [ "$(head -n 1 "$1")" = "$mark" ]; }

. "${0%/*}/../parts/newc.sh"
. "${0%/*}/../parts/standby-place.sh"
. "${0%/*}/../parts/standby-handover.sh"

# ---------------------------------------------------------------- put

# Any other boot loader is the final system's. nixos-install sets the profile just before it writes one.
require_no_other() {
	[ ! -L "$root/nix/var/nix/profiles/system" ] || none "a system is installed at $root already"
	for file in "$boot/syslinux.cfg" "$boot/loader/loader.conf"; do
		[ ! -e "$file" ] || ours "$file" || none "$file is another boot loader's"
	done
	[ "$firmware" = BIOS ] || [ ! -e "$loader" ] || same "$tools/boot.efi" "$loader" ||
		none "$loader is another boot loader's"
}

require_room() {
	needed=$(($(bytes "$work/handover") + margin))
	for file in kernel initrd; do
		same "$folder/$file" "$ours/$file" || needed=$((needed + $(bytes "$folder/$file")))
	done
	free=$(($(df -Pk "$boot" | awk 'NR == 2 { print $4 }') * 1024))
	[ "$free" -ge "$needed" ] ||
		none "too little room: $boot has $((free >> 20)) MiB free, and $(((needed >> 20) + 1)) are needed"
}

# place FILE PLACE: copies it beside its place, then renames it. The initrd is padded: the handover follows it
place() {
	if same "$1" "$2"; then return; fi
	{
		cat "$1"
		[ "${2##*/}" != initrd ] || pad "$(bytes "$1")"
	} >"$2.new"
	sync
	mv -f "$2.new" "$2"
}

put_uefi() {
	mkdir -p "$boot/EFI/BOOT" "$boot/loader/entries"
	place "$tools/boot.efi" "$ours/loader.efi"
	cat >"$work/entry" <<END
$mark
title Holdfast installer
linux /holdfast/kernel
initrd /holdfast/initrd
initrd /holdfast/handover
options $command_line
END
	cat >"$work/loader" <<END
$mark
default holdfast-standby.conf
timeout 0
END
	place "$work/entry" "$boot/loader/entries/holdfast-standby.conf"
	place "$work/loader" "$boot/loader/loader.conf"
	place "$tools/boot.efi" "$loader"
}

put_bios() {
	cat >"$work/syslinux" <<END
$mark
DEFAULT holdfast
PROMPT 0
LABEL holdfast
  LINUX $prefix/holdfast/kernel
  INITRD $prefix/holdfast/initrd,$prefix/holdfast/handover
  APPEND $command_line
END
	place "$work/syslinux" "$boot/syslinux.cfg"
	"$tools/extlinux" --install "$boot" >&2
	sync
	if [ "$table" = dos ]; then
		flag=$(od -An -tx1 -j $((446 + 16 * (number - 1))) -N 1 "$live$disk")
		[ "${flag##* }" = 80 ] ||
			sfdisk --quiet --no-reread --no-tell-kernel --activate "$live$disk" "$number" >&2
	else
		attributes=$(sfdisk --part-attrs "$live$disk" "$number")
		case " $attributes " in
		*LegacyBIOSBootable*) ;;
		*)
			sfdisk --quiet --no-reread --no-tell-kernel --part-attrs "$live$disk" "$number" \
				"${attributes:+$attributes,}LegacyBIOSBootable" >&2
			;;
		esac
	fi
	dd if="$boot_code" of="$live$disk" bs=440 count=1 conv=notrunc,fsync 2>/dev/null
}

# armed: is the whole standby on the disk, and is it what the firmware starts?
armed() {
	[ -s "$ours/kernel" ] && [ -s "$ours/initrd" ] && [ -s "$ours/handover" ] || return 1
	if [ "$firmware" = UEFI ]; then
		ours "$boot/loader/loader.conf" && same "$tools/boot.efi" "$loader"
	else
		ours "$boot/syslinux.cfg" && [ "$(digest <"$boot_code")" = "$(head -c 440 "$live$disk" | digest)" ]
	fi
}

show() {
	find_all
	armed || none "the disk does not boot the installer"
	echo "armed: by $firmware, $source boots the installer"
}

put() {
	find_all
	if [ ! -e "$folder/kernel" ] && armed; then
		echo "armed: by $firmware, $source boots the installer already"
		return
	fi
	require_no_other
	for file in kernel initrd command-line; do
		[ -s "$folder/$file" ] || none "the installer's $file is not in its RAM"
	done
	command_line=$(head -n 1 "$folder/command-line")
	make_handover
	require_room

	[ -e "$ours/handover" ] || fresh=1
	mkdir -p "$ours"
	place "$folder/kernel" "$ours/kernel"
	place "$folder/initrd" "$ours/initrd"
	place "$work/handover" "$ours/handover"
	if [ "$firmware" = UEFI ]; then put_uefi; else put_bios; fi
	sync
	fresh=
	echo "armed: by $firmware, $source boots the installer"
}

# ---------------------------------------------------------------- remove

# wipe FILE: overwrites it, then removes it
wipe() {
	[ -f "$1" ] || return 0
	dd if=/dev/zero of="$1" bs=4096 count=$((($(bytes "$1") + 4095) / 4096)) conv=notrunc,fsync 2>/dev/null || true
	rm -f "$1"
}

# take_away BOOT: removes the standby. Files that tell what else is ours go last, so that this can be repeated
take_away() {
	gone=
	if ours "$1/loader/loader.conf"; then
		# With a loader.conf of its own the final system may start by the very same file.
		set +f
		for file in "$1"/EFI/BOOT/BOOT*.EFI; do
			if same "$1/holdfast/loader.efi" "$file"; then rm -f "$file"; fi
		done
		set -f
		rm -f "$1/loader/loader.conf"
		gone=1
	fi
	if ours "$1/loader/entries/holdfast-standby.conf"; then
		rm -f "$1/loader/entries/holdfast-standby.conf"
		gone=1
	fi
	if ours "$1/syslinux.cfg"; then
		for file in "$1/ldlinux.sys" "$1/ldlinux.c32"; do
			[ -e "$file" ] || continue
			chattr -i "$file" 2>/dev/null || true # as extlinux leaves it on ext
			rm -f "$file"
		done
		rm -f "$1/syslinux.cfg"
		gone=1
	fi
	if [ -d "$1/holdfast" ]; then
		wipe "$1/holdfast/handover"
		wipe "$1/holdfast/handover.new"
		for file in kernel kernel.new initrd initrd.new loader.efi loader.efi.new; do rm -f "$1/holdfast/$file"; done
		gone=1
	fi
	[ -n "$gone" ] || return 1
	for file in EFI/BOOT EFI loader/entries loader holdfast; do
		[ ! -d "$1/$file" ] || rmdir "$1/$file" 2>/dev/null || true
	done
	sync
}

remove() {
	removed=
	for boot in "$root/boot/efi" "$root/efi" "$root/boot"; do
		if [ -d "$boot" ] && take_away "$boot"; then removed="$removed $boot"; fi
	done
	[ -n "$removed" ] || none "there is no standby below ${root:-/}"
	echo "removed: the standby in$removed"
}

# Nothing happens before the whole script is here: it comes over a link that may break.
main() {
	trap clean_up EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 141' PIPE
	trap 'exit 143' TERM
	case ${1-} in
	put) [ $# -eq 3 ] || usage ;;
	show | remove) [ $# -eq 2 ] || usage ;;
	*) usage ;;
	esac
	root=${2%/}
	folder=${3-}
	"$1"
}

main "$@" </dev/null
