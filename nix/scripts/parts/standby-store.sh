# shellcheck shell=sh disable=SC2034,SC2154 # standby.sh has the other half of these variables
# standby-store.sh: a part of standby.sh: where the installer and its hand-over lie, and what the starter has to know to
# find them there.

encrypted="the root is encrypted and the boot partition is not (\`allow\` has no state-on-boot)"

look_whether_plain() {
	types=$(lsblk -snro TYPE "$1") && [ -n "$types" ] || secret="cannot tell whether $1 is encrypted"
	case $types in *crypt*) secret=$encrypted ;; esac
}

# Sets `secret`: why nothing of the new root may lie on the boot file system; empty if all of the root is plain.
find_secrecy() {
	secret=
	while read -r type on; do
		case $type in
		tmpfs | ramfs | devtmpfs | devpts | proc | sysfs | efivarfs) ;;
		bcachefs) secret="cannot tell whether $on is encrypted" ;;
		zfs)
			[ "$(zfs get -H -o value encryption "$on")" = off ] || secret=$encrypted
			zpool list -vHPL "${on%%/*}" | awk '$1 ~ /^\/dev\// { print $1 }' >"$work/vdevs"
			[ -s "$work/vdevs" ] || secret="cannot tell whether the pool of $on is encrypted"
			while read -r vdev; do look_whether_plain "$vdev"; done <"$work/vdevs"
			;;
		*) look_whether_plain "$on" ;;
		esac
		[ -z "$secret" ] || return 0
	done <"$work/mounts"
}

# can WORD: does the image's starter mount, or put together, this?
can() { case " $(tr '\n' ' ' <"$tools/starter-mounts") " in *" $1 "*) ;; *) return 1 ;; esac }

# can_reach DEVICE: can the starter put together all that this lies on?
can_reach() {
	for layer in $(lsblk -snro TYPE "$1"); do
		case $layer in
		disk | part) ;;
		lvm) can lvm || return 1 ;;
		raid*) can md || return 1 ;;
		*) return 1 ;;
		esac
	done
}

# can_find MOUNTPOINT: can the starter mount what is mounted here? Sets `store_type`, `store_id`, `dataset`, and
# `inside`, the path of the mount point in its file system
can_find() {
	mounted "$1" && can "$fstype" || return 1
	store_type=$fstype
	dataset=
	if [ "$fstype" = zfs ]; then
		dataset=$source
		case $dataset in *[!A-Za-z0-9._/:-]*) return 1 ;; esac
		store_id=$(zpool get -H -o value guid "${source%%/*}") || return 1
	else
		can_reach "$source" || return 1
		store_id=$(blkid -p -s UUID -o value "$live$source") || return 1
	fi
	inside=$(findmnt -rnv -o FSROOT -M "$1" | tail -n 1)
	case $inside in *..* | *[!A-Za-z0-9._/@:+-]*) return 1 ;; esac
	[ -n "$store_id" ] && [ -n "$inside" ] || return 1
	inside=${inside%/}
}

# Sets `store`, the folder, and `store_folder`, its path in its own file system. The file system of /nix goes first: the
# final system may empty that of / at each start. If the boot file system is all that is left, and the starter cannot
# mount that, the boot loader starts the installer itself.
find_store() {
	find_secrecy
	if [ -n "$starter" ] && [ -z "$secret" ]; then
		for top in "$root/nix" "$root"; do
			if can_find "$top"; then
				store=$top/.holdfast-standby
				store_folder=$inside/.holdfast-standby
				return
			fi
		done
	fi
	[ -z "$secret" ] || [ -n "$on_boot" ] || none "$secret"
	store=$ours
	if [ -n "$starter" ] && can_find "${boot%"$prefix"}"; then
		store_folder=$inside$prefix/holdfast
	else
		store_type=$boot_type
		starter=
	fi
}

# named_handover DIGEST: prints its name. Another hand-over has another one, so the older one is whole until the starter
# is told of the new one
named_handover() { printf 'handover.%.12s' "$1"; }

# Puts the starter in its place, and then what it has to know: that is what makes a standby of it all.
put_starter() {
	cat >"$work/told" <<END
type $store_type
id $store_id
${dataset:+dataset $dataset
}folder $store_folder
kernel $(digest <"$store/kernel")
initrd $(digest <"$store/initrd")
handover $(digest <"$store/$handover")
line $command_line
END
	mkdir -p "${known%/*}"
	place "$starter" "$started_at"
	if [ "$firmware" = UEFI ]; then
		place "$work/told" "$known"
		return
	fi
	place "$folder/kernel" "$ours/kernel"
	{
		header .extra 040700 0
		header .extra/credentials 040700 0
		header .extra/credentials/standby.cred 0100600 "$(bytes "$work/told")"
		cat "$work/told"
		pad "$(bytes "$work/told")"
		header 'TRAILER!!!' 0 0
	} >"$work/known"
	place "$work/known" "$known"
}
