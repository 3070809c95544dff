#!/bin/sh
# standby.sh put ROOT FOLDER    in the installer, when the disks are formatted and mounted at ROOT
# standby.sh show ROOT          in the installer: does the disk at ROOT boot a standby?
# standby.sh remove ROOT        when the final system's boot loader is in place; there too, with ROOT `/`
#
# The standby is the installer itself on the new disk: from the formatting until the final system has its boot loader, a
# machine that loses power boots into it, and is on its tailnet as before. `put` takes FOLDER/kernel, FOLDER/initrd and
# FOLDER/command-line (a line for the kernel), and writes below the boot file system
#   holdfast/kernel holdfast/initrd   of the image
#   holdfast/handover                 what kexec/run appends to the initrd, made from the live installer: the same node,
#                                     run, host keys and secrets, no dead-man, and the mark of the formatted disks
#   UEFI: holdfast/loader.efi EFI/BOOT/BOOT….EFI loader/loader.conf loader/entries/holdfast-standby.conf
#   BIOS: syslinux.cfg, what extlinux installs, the disk's first 440 bytes, and which partition they start
# The programs for it are the image's: /etc/holdfast/standby/{extlinux,mbr.bin,gptmbr.bin,boot.efi}.
# `put` and `show` print one line: `armed: …`, or `none: WHY` if there is none; both end well.
# `remove` takes away exactly what `put` wrote and nobody else replaced, secrets overwritten first, and prints
# `removed: …` or `none: …`. Both can be repeated. The script may come on standard input, so nothing here may read that.
set -euf
umask 077
export LC_ALL=C

live=${HOLDFAST_ROOT:-} # a folder that stands for the installer's root, in tests
tools=$live/etc/holdfast/standby
mark='# Holdfast standby: boots the installer until the new system has its boot loader'
margin=100663296 # bytes that stay free for the final system's own kernel and initrd

work=
fresh= # set while there is a part of a standby, and was none before

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

# zeros N: that many zero bytes
zeros() { [ "$1" -eq 0 ] || dd if=/dev/zero bs="$1" count=1 2>/dev/null; }

# pad N: zero bytes up to the next multiple of four, where the kernel looks for an archive
pad() { zeros $(((4 - $1 % 4) % 4)); }

# ---------------------------------------------------------------- where it goes

# mounted DIR: sets `fstype` and `source` of what is mounted exactly there; fails if nothing is
mounted() {
	# shellcheck disable=SC2046 # two words
	set -- $(findmnt -rnv -o FSTYPE,SOURCE -M "$1" 2>/dev/null | tail -n 1)
	[ $# -eq 2 ] || return 1
	fstype=$1
	source=$2
}

extlinux_can() { case $1 in vfat | ext2 | ext3 | ext4) ;; *) return 1 ;; esac }

# Sets `boot`, the folder; `source`, its device; `prefix`, its path in its own file system.
find_boot() {
	prefix=
	if [ "$firmware" = UEFI ]; then
		for boot in "$root/boot/efi" "$root/efi" "$root/boot"; do
			if mounted "$boot" && [ "$fstype" = vfat ]; then return; fi
		done
		none "no EFI system partition is mounted below $root"
	fi
	boot=$root/boot
	if mounted "$boot"; then
		if extlinux_can "$fstype"; then return; fi
	elif mounted "$root" && extlinux_can "$fstype"; then
		prefix=/boot
		(umask 022 && mkdir -p "$boot")
		return
	fi
	for boot in "$root/boot/efi" "$root/efi"; do
		if mounted "$boot" && extlinux_can "$fstype"; then return; fi
	done
	none "extlinux can boot from no file system below $root"
}

# Sets `disk`, `number` of the partition, and `boot_code`, the file with the disk's first bytes.
find_disk() {
	partition=$(readlink -f "$live$source")
	partition=$(readlink -f "$live/sys/class/block/${partition##*/}") || none "$source is no block device"
	[ -r "$partition/partition" ] || none "$source is no partition of a disk"
	number=$(cat "$partition/partition")
	disk=${partition%/*}
	disk=/dev/${disk##*/}
	table=$(blkid -p -s PTTYPE -o value "$live$disk") || true
	case $table in
	dos)
		[ "$number" -le 4 ] || none "$source is no primary partition"
		boot_code=$tools/mbr.bin
		;;
	gpt) boot_code=$tools/gptmbr.bin ;;
	*) none "$disk has neither a GPT nor an msdos partition table" ;;
	esac
	[ -x "$tools/extlinux" ] && [ -f "$boot_code" ] || none "the image brings no extlinux"
}

# Sets `loader`, the place of the EFI boot loader.
find_loader() {
	case $(uname -m) in
	x86_64) loader=BOOTX64.EFI ;;
	aarch64) loader=BOOTAA64.EFI ;;
	riscv64) loader=BOOTRISCV64.EFI ;;
	*) none "nobody knows the EFI boot loader of $(uname -m)" ;;
	esac
	loader=$boot/EFI/BOOT/$loader
	[ -f "$tools/boot.efi" ] || none "the image brings no EFI boot loader"
}

encrypted() { none "the root is encrypted and the boot partition is not"; }

# require_plain DEVICE: the standby's secrets lie on the boot partition, so what is below ROOT may not be encrypted
require_plain() {
	types=$(lsblk -snro TYPE "$1") && [ -n "$types" ] || none "it is not known whether $1 is encrypted"
	case $types in *crypt*) encrypted ;; esac
}

require_all_plain() {
	findmnt -Rrnv -o FSTYPE,SOURCE "$root" >"$work/mounts" && [ -s "$work/mounts" ] || none "nothing is mounted at $root"
	while read -r type device; do
		case $type in
		tmpfs | ramfs | devtmpfs | devpts | proc | sysfs | efivarfs) ;;
		zfs)
			[ "$(zfs get -H -o value encryption "$device")" = off ] || encrypted
			zpool list -vHPL "${device%%/*}" | awk '$1 ~ /^\/dev\// { print $1 }' >"$work/vdevs"
			[ -s "$work/vdevs" ] || none "it is not known whether the pool of $device is encrypted"
			while read -r vdev; do require_plain "$vdev"; done <"$work/vdevs"
			;;
		*) require_plain "$device" ;;
		esac
	done <"$work/mounts"
}

# A boot loader of others is the final system's. nixos-install sets the profile just before it writes one.
require_no_other() {
	[ ! -L "$root/nix/var/nix/profiles/system" ] || none "a system is installed at $root already"
	for file in "$boot/syslinux.cfg" "$boot/loader/loader.conf"; do
		[ ! -e "$file" ] || ours "$file" || none "$file is another boot loader's"
	done
	[ "$firmware" = BIOS ] || [ ! -e "$loader" ] || same "$tools/boot.efi" "$loader" || none "there is another $loader"
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

# ---------------------------------------------------------------- what is handed over

# entry NAME MODE BYTES: the newc header of a file
entry() {
	printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s' \
		0 "$2" 0 0 1 0 "$3" 0 0 0 0 $((${#1} + 1)) 0 "$1"
	zeros $((1 + (4 - (110 + ${#1} + 1) % 4) % 4))
}

# add NAME MODE FILE: puts it into the handover
add() {
	{
		entry "$1" "$2" "$(bytes "$3")"
		cat "$3"
		pad "$(bytes "$3")"
	} >>"$work/handover"
}

add_ssh() {
	# Whoever restores them may have added a line twice.
	awk '!seen[$0]++' "$live/root/.ssh/authorized_keys" >"$work/authorized_keys" 2>/dev/null || true
	add ssh/authorized_keys 0100600 "$work/authorized_keys"
	set +f
	for key in "$live"/etc/ssh/ssh_host_*; do
		[ -f "$key" ] || continue
		case $key in
		*.pub) add "ssh/${key##*/}" 0100644 "$key" ;;
		*) add "ssh/${key##*/}" 0100600 "$key" ;;
		esac
	done
	set -f
}

# What the origin said of its network: nixos-images keeps it in /root/network, the hand-over's own place is /.
add_network() {
	for name in addrs routes-v4 routes-v6; do
		for file in "$live/root/network/$name.json" "$live/$name.json"; do
			[ -f "$file" ] || continue
			add "$name.json" 0100644 "$file"
			break
		done
	done
}

# As carry-over.sh does: the live state, with the preferences that the origin had.
add_state() {
	[ -s "$live/var/lib/tailscale/tailscaled.state" ] || none "the installer has no Tailscale state: nobody would find it"
	cp -a "$live/var/lib/tailscale" "$work/state"
	if [ -s "$live/run/holdfast/prefs.json" ]; then
		sh "$live/run/holdfast/tailscale-prefs.sh" put-back "$work/state/tailscaled.state" "$live/run/holdfast/prefs.json" ||
			none "the origin's Tailscale preferences could not be put back"
	fi
	tar -C "$work/state" -czhf "$work/state.tar.gz" . || [ $? -eq 1 ] # 1: a file changed meanwhile
	add holdfast/tailscale-state.tar.gz 0100600 "$work/state.tar.gz"
}

# The installer logs in to its network with them again. What has no simple name, left there by a command of the image,
# stays here: installer-restore.sh would refuse it all.
add_secrets() {
	set --
	set +f
	for file in "$live/run/holdfast/secrets"/[A-Za-z0-9_]*; do
		name=${file##*/}
		if [ ! -f "$file" ] || [ -L "$file" ] || [ ${#name} -gt 64 ]; then continue; fi
		case $name in *[!A-Za-z0-9._-]*) continue ;; esac
		set -- "$@" "$name"
	done
	set -f
	[ $# -gt 0 ] || return 0
	tar -C "$live/run/holdfast/secrets" -cf "$work/secrets.tar" "$@" || [ $? -eq 1 ] # as above
	add holdfast/secrets.tar 0100600 "$work/secrets.tar"
}

# told NAME: a string of what kexec/run told
told() {
	[ ! -f "$live/run/holdfast/run.json" ] ||
		sed -n "s/^\"$1\": \"\([A-Za-z0-9._-]\{1,128\}\)\",*\$/\1/p" "$live/run/holdfast/run.json"
}

add_facts() {
	uname -n >"$work/hostname"
	add holdfast/hostname 0100644 "$work/hostname"
	sed -n 's/^DNS=//p' "$live/run/systemd/resolved.conf.d/holdfast.conf" 2>/dev/null | tr ' ' '\n' |
		sed -n 's/^./nameserver &/p' >"$work/resolv.conf" || true
	add holdfast/resolv.conf 0100644 "$work/resolv.conf"
	cat >"$work/run.json" <<END
{
"run_id": "$(told run_id)",
"origin_boot_id": "$(told origin_boot_id)",
"dead_man_s": 0,
"hostname": "$(uname -n)"
}
END
	add holdfast/run.json 0100644 "$work/run.json"
	# The formatted disks' mark: the retry goes on, and does not format them again.
	for file in "$live/run/holdfast/partition.json" "$root/var/lib/holdfast/partition.json"; do
		[ -s "$file" ] || continue
		add holdfast/partition.json 0100644 "$file"
		return
	done
	none "the disks bear no mark: the installer would not know what they are"
}

make_handover() {
	: >"$work/empty"
	add ssh 040700 "$work/empty"
	add_ssh
	add_network
	[ ! -s "$live/etc/machine-id" ] || add machine-id 0100444 "$live/etc/machine-id"
	add holdfast 040700 "$work/empty"
	add_state
	add_secrets
	add_facts
	add 'TRAILER!!!' 0 "$work/empty"
}

# ---------------------------------------------------------------- put

# place FILE PLACE: beside it first, then renamed. An archive is padded: another one follows it.
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

# find_all: sets where a standby goes, or is
find_all() {
	case $root in /?*) ;; *) usage ;; esac
	mkdir -p "$live/run/holdfast"
	work=$(mktemp -d "$live/run/holdfast/standby.XXXXXX")
	firmware=BIOS
	[ ! -d "$live/sys/firmware/efi" ] || firmware=UEFI

	require_all_plain
	find_boot
	if [ "$firmware" = UEFI ]; then find_loader; else find_disk; fi
	ours=$boot/holdfast
}

# Does the disk boot the standby, all of it, by what the firmware starts?
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

# wipe FILE: overwritten, then removed
wipe() {
	[ -f "$1" ] || return 0
	dd if=/dev/zero of="$1" bs=4096 count=$((($(bytes "$1") + 4095) / 4096)) conv=notrunc,fsync 2>/dev/null || true
	rm -f "$1"
}

# take_away BOOT: what says what else is ours goes last, so that this can be repeated
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

# The whole script has to be here before anything happens: it comes over a link that may drop.
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
