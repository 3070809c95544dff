#!/bin/sh
# standby.sh put ROOT FOLDER [state-on-boot]   in the installer, after formatting, with the disks mounted at ROOT
# standby.sh show ROOT          in the installer: does the disk at ROOT boot a standby?
# standby.sh remove ROOT        in the installer, or in the final system with ROOT `/`, once that has its boot loader
#
# The standby is the installer itself, on the new disk. After formatting, and until the final system has its boot
# loader, a machine that loses power boots into it, and is on its tailnet as before. `put` takes from FOLDER what
# holdfast/target/standby.py brought: kernel, initrd, command-line (a line for the kernel) and, if the image has one,
# the starter: standby.efi for UEFI, starter for BIOS. It also makes
#   the hand-over   what kexec/run would append to the initrd, made from the live installer: the same node, run, host
#                   keys and secrets, no dead-man, and the mark of the formatted disks
# With a starter (../installer/starter.sh), that alone is on the boot file system, with what it has to find:
#   UEFI: EFI/holdfast/standby.efi, and EFI/holdfast/standby.efi.extra.d/standby.cred
#   BIOS: holdfast/kernel holdfast/starter holdfast/known
#   The rest is on the new root, in FILE-SYSTEM/.holdfast-standby: kernel, initrd, handover.DIGEST. If the root is
#   encrypted (with the word state-on-boot), or the starter cannot mount it, it is in `holdfast` of the boot file system.
# Without a starter it all is on the boot file system: holdfast/kernel holdfast/initrd holdfast/handover.
# What starts it is there too:
#   UEFI: holdfast/loader.efi EFI/BOOT/BOOT….EFI loader/loader.conf loader/entries/holdfast-standby.conf
#   BIOS: syslinux.cfg, what extlinux installs, the disk's first 440 bytes, and the flag of the partition they start.
#   For the first boot of the new system (bios-boot.sh): holdfast/boot-code, a copy of those bytes, and holdfast/new.mbr
# The image brings the programs for it: /etc/holdfast/standby/{extlinux,mbr.bin,gptmbr.bin,boot.efi}, and says in a
# file beside them, starter-mounts, what its starter can mount: words like ext4, zfs, lvm, md.
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
	echo "usage: standby.sh put ROOT FOLDER [state-on-boot] | show ROOT | remove ROOT" >&2
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
	if [ -n "$fresh" ]; then take_away || true; fi
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
. "${0%/*}/../parts/standby-store.sh"
. "${0%/*}/../parts/copy-state.sh"
. "${0%/*}/../parts/standby-handover.sh"
. "${0%/*}/../parts/standby-loader.sh"
. "${0%/*}/../parts/standby-remove.sh"

# ---------------------------------------------------------------- put

# place FILE PLACE: copies it beside its place, then renames it. An initrd is padded: another archive follows it. An
# older hand-over is overwritten, not only replaced
place() {
	if same "$1" "$2"; then return; fi
	case ${2##*/} in
	handover*) # a killed `put` may have left these
		wipe "$2.new"
		wipe "$2.old"
		;;
	esac
	{
		cat "$1"
		case ${2##*/} in initrd | starter) pad "$(bytes "$1")" ;; esac
	} >"$2.new"
	sync
	case ${2##*/} in
	handover) [ ! -e "$2" ] || mv -f "$2" "$2.old" ;;
	esac
	mv -f "$2.new" "$2"
	if [ -e "$2.old" ]; then
		sync
		wipe "$2.old"
	fi
}

# Sets `starter`, what the boot loader or the firmware starts; empty if the image has none.
find_starter() {
	starter=$folder/starter
	[ "$firmware" = BIOS ] || starter=$folder/standby.efi
	[ -s "$starter" ] && [ -s "$tools/starter-mounts" ] || starter=
}

# require_room FOLDER BYTES: is there room for this, and for the final system's own files?
require_room() {
	# shellcheck disable=SC2046 # two numbers
	set -- "$1" "$2" $(df -Pk "$1" | awk 'NR == 2 { print $2, $4 }')
	mib=$(((($2 + margin) >> 20) + 1))
	[ $(($4 * 1024)) -ge $(($2 + margin)) ] ||
		none "too little room: $1 has $(($4 >> 10)) MiB free, and $mib are needed." \
			"It has $(($3 >> 10)) MiB in all: $((($3 >> 10) + mib - ($4 >> 10))) would do"
}

# lacking FILE PLACE: prints how many bytes have to be written for it
lacking() { if same "$1" "$2"; then echo 0; else bytes "$1"; fi; }

require_all_room() {
	stored=$(($(bytes "$work/handover") + $(lacking "$folder/initrd" "$store/initrd") + \
		$(lacking "$folder/kernel" "$store/kernel")))
	started=0
	if [ -n "$starter" ]; then
		started=$(lacking "$starter" "$started_at")
		if [ "$firmware" = BIOS ] && [ "$store" != "$ours" ]; then
			started=$((started + $(lacking "$folder/kernel" "$ours/kernel")))
		fi
	fi
	if [ "$store" = "$ours" ]; then
		require_room "$boot" $((stored + started))
	else
		require_room "$boot" "$started"
		require_room "${store%/*}" "$stored"
	fi
}

put() {
	find_all
	if [ ! -e "$folder/kernel" ] && armed; then
		echo "armed: by $firmware, $device boots the installer already"
		return
	fi
	require_no_other
	for file in kernel initrd command-line; do
		[ -s "$folder/$file" ] || none "the installer's $file is not in its RAM"
	done
	command_line=$(head -n 1 "$folder/command-line")
	find_starter
	find_store
	make_handover
	handover=handover
	[ -z "$starter" ] || handover=$(named_handover "$(digest <"$work/handover")")
	require_all_room

	armed || fresh=1
	mkdir -p "$ours" "$store"
	# What is overwritten in place on btrfs, when it goes, must not have been written elsewhere.
	[ "$store_type" != btrfs ] || chattr +C "$store" || true
	place "$folder/kernel" "$store/kernel"
	place "$folder/initrd" "$store/initrd"
	place "$work/handover" "$store/$handover"
	# sync leaves it in the pool's log. The starter imports the pool read-only, and so does not replay that.
	[ "$store_type" != zfs ] || [ "$store" = "$ours" ] || zpool sync "${dataset%%/*}" || none "the pool cannot be written"
	if [ -n "$starter" ]; then put_starter; fi
	if [ "$firmware" = UEFI ]; then put_uefi; else put_bios; fi
	sync
	fresh=
	take_away_older
	echo "armed: by $firmware, $device boots the installer"
}

show() {
	find_all
	if armed; then
		echo "armed: by $firmware, $device boots the installer"
		return
	fi
	# Whoever put it there was asked first whether the boot partition may hold the state of an encrypted root.
	! is_complete || none "another boot loader is in its place"
	find_secrecy
	none "${secret:-the disk does not boot the installer}"
}

# Nothing happens before the whole script is here: it comes over a link that may break.
main() {
	trap clean_up EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 141' PIPE
	trap 'exit 143' TERM
	case ${1-} in
	put) [ $# -eq 3 ] || { [ $# -eq 4 ] && [ "$4" = state-on-boot ]; } || usage ;;
	show | remove) [ $# -eq 2 ] || usage ;;
	*) usage ;;
	esac
	root=${2%/}
	folder=${3-}
	on_boot=${4-}
	"$1"
}

main "$@" </dev/null
