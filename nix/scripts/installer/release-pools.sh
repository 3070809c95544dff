#!/bin/sh
# release-pools.sh DISK...
# Runs in the installer when the new root cannot be mounted: releases the ZFS pools on these disks (their device files)
# that another system has used and not exported, so that they import without force. That other system is the new one, in
# a trial that was cut short: it ran on this machine, under another host id, and cannot run now.
# A pool is only forced if ZFS refuses it for that reason. One with multihost=on that another machine uses at this moment
# is refused for another; and ZFS looks for that itself, also with -f (zpoolprops(7), zpool-import(8)).
# Prints `released: the pool NAME…` for each. Why a pool cannot be released goes to standard error. Exits with 0.
set -uf
export LC_ALL=C

# guid_of DEVICE: prints the guid of the pool that it is a member of
guid_of() {
	[ "$(blkid -p -s TYPE -o value "$1" 2>/dev/null)" = zfs_member ] || return
	guid=$(blkid -p -s UUID -o value "$1" 2>/dev/null)
	case $guid in *[!0-9]*) ;; ?*) echo "$guid" ;; esac
}

# name_of GUID: prints the name of the pool if it is imported
name_of() { zpool list -H -o guid,name 2>/dev/null | sed -n "s/^$1$(printf '\t')//p"; }

# release GUID
release() {
	[ -z "$(name_of "$1")" ] || return 0
	forced=
	if ! said=$(zpool import -N -o cachefile=none "$1" 2>&1); then
		case $said in
		*'pool was previously in use from another system'*) ;;
		*)
			printf '%s\n' "$said" >&2
			return
			;;
		esac
		zpool import -N -o cachefile=none -f "$1" || return
		forced=1
	fi
	name=$(name_of "$1")
	zpool export "$name" || return
	[ -z "$forced" ] || echo "released: the pool $name, which another system has used and not exported"
}

main() {
	if ! command -v zpool >/dev/null; then return; fi
	udevadm settle --timeout=30 >/dev/null 2>&1
	for device in $(lsblk -nrpo NAME "$@"); do guid_of "$device"; done | sort -u | while read -r guid; do
		release "$guid"
	done
}

main "$@" </dev/null
exit 0
