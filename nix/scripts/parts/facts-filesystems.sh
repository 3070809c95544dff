# shellcheck shell=sh disable=SC2154 # way-back.sh sets root, facts-json.sh text
# facts-filesystems.sh: a part of way-back.sh: file systems that a boot may stop at. holdfast/facts/file_systems.py parses
# it.

# device_path NAME: prints the path of a device as fstab names it; nothing if that is not a block device's name
device_path() {
	value=$(printf '%s' "${1#*=}" | tr -d '"')
	case $1 in
	UUID=*) printf '/dev/disk/by-uuid/%s' "$value" ;;
	LABEL=*) printf '/dev/disk/by-label/%s' "$value" ;;
	PARTUUID=*) printf '/dev/disk/by-partuuid/%s' "$value" ;;
	PARTLABEL=*) printf '/dev/disk/by-partlabel/%s' "$value" ;;
	/dev/*) printf '%s' "$1" ;;
	esac
}

# device_state NAME: prints `here` or `missing`, or `unknown` if its links are not kept here, or if it is no device. In
# names of links, udev writes unusual characters in a way of its own.
device_state() {
	path=$(device_path "$1")
	case $path in *[!A-Za-z0-9./_:+-]*) path= ;; esac
	if [ -z "$path" ] || [ ! -d "$root${path%/*}" ]; then
		echo unknown
	elif [ -e "$root$path" ] || [ -L "$root$path" ]; then
		echo here
	else
		echo missing
	fi
}

# The lines of fstab: `DEVICE PLACE TYPE OPTIONS STATE`. Of the options only those that count: one may be a password.
fstab() {
	head -n 256 "$root/etc/fstab" | while read -r device place type options _; do
		case $device in '' | '#'* | //* | *:/*) continue ;; esac
		kept=
		case ",$options," in *,nofail,*) kept=$kept,nofail ;; esac
		case ",$options," in *,noauto,*) kept=$kept,noauto ;; esac
		case ",$options," in *,_netdev,*) kept=$kept,_netdev ;; esac
		case ",$options," in *,x-systemd.automount,*) kept=$kept,automount ;; esac
		case ",$options," in *,bind,* | *,rbind,*) kept=$kept,bind ;; esac
		case ",$options," in *,ro,*) kept=$kept,ro ;; esac
		kept=${kept#,}
		printf '%s %s %s %s %s\n' "$device" "$place" "$type" "${kept:--}" "$(device_state "$device")"
	done
}

# The places where fstab has file systems mounted at boot, and the boot waits for them.
required_by_fstab() {
	fstab | while read -r _ place _ options _; do
		case $options in *nofail* | *noauto* | *automount*) ;; *) printf '%s\n' "$place" ;; esac
	done
}

# Lines: `PLACE TYPE ro|rw DEVICE` for each file system on a disk. Its own state counts, not that of a bind mount.
mounts() {
	while read -r _ _ _ _ place _ rest; do
		rest=${rest#*- }
		type=${rest%% *}
		rest=${rest#* }
		source=${rest%% *}
		state=rw
		case ${rest#* } in ro | ro,*) state=ro ;; esac
		case $type:$source in
		squashfs:* | iso9660:* | erofs:*) ;;
		*:/dev/*) printf '%s %s %s %s\n' "$place" "$type" "$state" "$(name_of "$source")" ;;
		zfs:*) printf '%s %s %s -\n' "$place" "$type" "$state" ;;
		esac
	done <"$root/proc/self/mountinfo"
}

# mounted_at PATH: prints the type and the options of the file system that a path lies on
mounted_at() {
	best=
	told=
	while read -r _ _ _ _ place _ rest; do
		case $1/ in
		"${place%/}"/*)
			[ "${#place}" -ge "${#best}" ] || continue
			best=$place
			told=${rest#*- }
			;;
		esac
	done <"$root/proc/self/mountinfo"
	printf '%s %s\n' "${told%% *}" "${told##* }"
}

# The type of the file system that the Tailscale state lies on; of an overlay, that of its upper part. `lbu` if that is in
# RAM, and what Alpine's `lbu commit` keeps on a disk includes the state.
state_file_system() {
	path=$(readlink -f "$root/var/lib/tailscale")
	path=${path#"$root"}
	seen=$(mounted_at "${path:-/var/lib/tailscale}")
	upper=$(printf '%s' "$seen" | tr ',' '\n' | sed -n 's/.*upperdir=//p' | head -n 1)
	if [ -n "$upper" ]; then seen=$(mounted_at "$upper"); fi
	case $seen in
	tmpfs* | ramfs*)
		kept=$root/etc/apk/protected_paths.d/lbu.list
		if [ -f "$kept" ] && grep -q -x -e '+/*var/*' -e '+/*var/lib/*' -e '+/*var/lib/tailscale/*' "$kept"; then seen=lbu; fi
		;;
	esac
	printf '%s\n' "${seen%% *}"
}

# Errors that file systems and arrays have counted: `ext4 sda1 3`, `btrfs UUID 7`, `md md0 1`.
errors() {
	set +f
	for file in "$root"/sys/fs/ext4/*/errors_count; do
		first_line "$file"
		case $text in '' | 0) ;; *) name=${file%/*} && printf 'ext4 %s %s\n' "${name##*/}" "$text" ;; esac
	done
	for folder in "$root"/sys/fs/btrfs/*-*; do
		sum=0
		for file in "$folder"/devinfo/*/error_stats; do
			[ -r "$file" ] || continue
			while read -r _ count; do
				case $count in '' | *[!0-9]*) ;; *) sum=$((sum + count)) ;; esac
			done <"$file"
		done
		[ "$sum" = 0 ] || printf 'btrfs %s %s\n' "${folder##*/}" "$sum"
	done
	for file in "$root"/sys/block/md*/md/degraded; do
		first_line "$file"
		case $text in '' | 0) ;; *) name=${file%/md/*} && printf 'md %s %s\n' "${name##*/}" "$text" ;; esac
	done
	set -f
}

# Swap devices that hold the image of a hibernation: `DEVICE resumed` if the kernel or its initrd is told to resume it,
# else `DEVICE unused`. The signature is at the end of the first page (systemd's and util-linux' swsuspend).
hibernation() {
	told=$(tr ' ' '\n' <"$root/proc/cmdline" | sed -n 's/^resume=//p' | tail -n 1)
	of_initrd=$(sed -n 's/^RESUME=//p' "$root/etc/initramfs-tools/conf.d/resume" | tail -n 1)
	{
		printf '%s resumed\n%s resumed\n' "$told" "$of_initrd"
		fstab | sed -n 's/^\([^ ]*\) [^ ]* swap .*/\1 unused/p'
	} | while read -r device use; do
		path=$(device_path "$device")
		[ -n "$path" ] && [ -e "$root$path" ] || continue
		for offset in 4086 16374 65526; do
			case $(dd if="$root$path" bs=1 skip="$offset" count=10 | tr -d '\000') in
			S1SUSPEND* | S2SUSPEND* | ULSUSPEND* | LINHIB0001*) printf '%s %s\n' "$device" "$use" && break ;;
			esac
		done
	done
}
