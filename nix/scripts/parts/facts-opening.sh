# shellcheck shell=sh disable=SC2154 # way-back.sh sets root, facts-json.sh text
# facts-opening.sh: a part of way-back.sh: what is encrypted of all that a boot needs, and what opens it then.
# holdfast/facts/opening.py parses it. No key is read or printed.

# What a boot needs besides what fstab requires.
system_places='/ /usr /etc /var /var/lib /nix /nix/store /boot /boot/efi /efi'

# crypts_under NAME: prints the dm-crypt devices that a block device lies on, itself too
crypts_under() {
	case $(line "$root/sys/class/block/$1/dm/uuid") in CRYPT-*) printf '%s\n' "$1" ;; esac
	if [ -e "$root/sys/class/block/$1/partition" ]; then
		whole=$(readlink "$root/sys/class/block/$1")
		whole=${whole%/*}
		crypts_under "${whole##*/}"
		return
	fi
	set +f
	for slave in "$root/sys/class/block/$1/slaves"/*; do
		[ ! -e "$slave" ] || (crypts_under "${slave##*/}")
	done
}

# name_of PATH: prints the kernel's name of a block device
name_of() {
	name=$(readlink -f "$root$1")
	printf '%s\n' "${name##*/}"
}

# pool_devices POOL: prints the kernel's names of the devices that a ZFS pool lies on
pool_devices() {
	! command -v zpool >/dev/null || within 10 zpool list -v -H -P -L "$1" | sed -n 's|^[[:space:]]*/dev/\([^[:space:]]*\).*|\1|p'
}

# Lines: `/ dm-0`, `/boot sda1`: each device that a mounted file system lies on. A ZFS lies on `zfs`, and its dataset.
mounted_devices() {
	while read -r _ _ _ _ place _ rest; do
		rest=${rest#*- }
		type=${rest%% *}
		source=${rest#* }
		source=${source%% *}
		case $type:$source in
		zfs:*) printf '%s zfs %s\n' "$place" "$source" ;;
		squashfs:* | iso9660:*) ;;
		btrfs:/dev/*)
			name=$(name_of "$source")
			set +f
			for found in "$root"/sys/fs/btrfs/*/devices/"$name"; do
				[ -e "$found" ] || continue
				for device in "${found%/*}"/*; do printf '%s %s\n' "$place" "${device##*/}"; done
				name=
			done
			set -f
			[ -z "$name" ] || printf '%s %s\n' "$place" "$name"
			;;
		bcachefs:/dev/*)
			printf '%s\n' "$source" | tr ':' '\n' |
				while read -r device; do printf '%s %s\n' "$place" "$(name_of "$device")"; done
			;;
		*:/dev/*) printf '%s %s\n' "$place" "$(name_of "$source")" ;;
		esac
	done <"$root/proc/self/mountinfo"
}

# The mounted file systems that a boot needs: the system's own, what fstab makes it wait for, and the encrypted volume on
# which Ubuntu keeps the key of its pool. A ZFS also lies on the devices of its pool.
needed_devices() {
	places=" $system_places $(required_by_fstab | tr '\n' ' ') "
	mounted_devices | while read -r place name dataset; do
		case "$places$place " in *" $place "*" $place "* | *" /run/keystore/"*) ;; *) continue ;; esac
		printf '%s %s %s\n' "$place" "$name" "$dataset"
		[ "$name" != zfs ] || pool_devices "${dataset%%/*}" | sed "s|^|$place |"
	done
}

# A LUKS header's own words: `token DEVICE systemd-tpm2`, `pin DEVICE tang`. LUKS 2 has its JSON behind the first 4 KiB.
header() {
	json=$(head -c 16384 "$root/dev/$1" | tail -c +4097 | tr -d '\000')
	printf '%s' "$json" | grep -a -o -e '"type":"systemd-[a-z0-9]*"' -e '"type":"clevis"' -e '"type":"luks2-keyring"' |
		sort -u | sed -e "s/^\"type\":\"/token $1 /" -e 's/"$//'
	printf '%s' "$json" | grep -a -o '"protected":"[A-Za-z0-9_-]*"' | cut -d '"' -f 4 | tr '_-' '/+' |
		while read -r coded; do
			case $((${#coded} % 4)) in 2) coded=$coded== ;; 3) coded=$coded= ;; esac
			printf '%s' "$coded" | base64 -d | grep -o '"pin": *"[a-z0-9]*"' | tr -d ' ' |
				sed -e "s/^\"pin\":\"/pin $1 /" -e 's/"$//'
		done
	if command -v luksmeta >/dev/null && within 5 luksmeta show -d "/dev/$1" | grep -q ' active *cb6e8904-81ff-40da'; then
		echo "token $1 clevis"
	fi
}

# Lines: `crypt dm-0 root CRYPT-LUKS2-… /dev/sda3 /,/home` for each encrypted device that is open, with the
# places that a boot needs of it, and its header.
encrypted() {
	needed=$(needed_devices)
	on_zfs=$(printf '%s\n' "$needed" | sed -n 's/ zfs .*//p' | head -n 1)
	set +f
	for folder in "$root"/sys/class/block/dm-*; do
		set -f
		name=${folder##*/}
		first_line "$folder/dm/uuid"
		uuid=$text
		case $uuid in CRYPT-*) ;; *) continue ;; esac
		places=$(printf '%s\n' "$needed" | while read -r place device _; do
			if [ "$device" != zfs ] && crypts_under "$device" | grep -qx "$name"; then printf '%s,' "$place"; fi
		done)
		# Without zpool it is not known which disks a pool lies on: what nothing else uses may be one of them.
		if [ -z "$places" ] && [ -n "$on_zfs" ] && ! command -v zpool >/dev/null && [ -z "$(ls "$folder/holders")" ] &&
			! mounted_devices | grep -q " $name\$" && ! grep -q "/$name " "$root/proc/swaps"; then
			places="$on_zfs,"
		fi
		set +f
		set -- "$folder/slaves"/*
		set -f
		lower=${1##*/}
		printf 'crypt %s %s %s %s %s\n' "$name" "$(line "$folder/dm/name" | tr ' \t' '__')" "${uuid%-"$(line "$folder/dm/name")"}" \
			"$lower" "${places%,}"
		header "$lower"
	done
	set -f
}

# The lines of crypttab, each with whether its key file is there: `crypttab NAME DEVICE KEY OPTIONS here`.
crypttab() {
	head -n 256 "$root/etc/crypttab" | while read -r name device key options _; do
		case $name in '' | '#'*) continue ;; esac
		state=-
		case $key in /dev/* | /*:*) ;; /*) if [ -e "$root$key" ]; then state=here; else state=missing; fi ;; esac
		printf 'crypttab %s %s %s %s %s\n' "$name" "$device" "${key:-none}" "${options:--}" "$state"
	done
}

# OpenRC's own crypttab, if it is used: `dmcrypt TARGET KEY`.
dmcrypt() {
	[ -e "$root/etc/runlevels/boot/dmcrypt" ] || [ -L "$root/etc/runlevels/boot/dmcrypt" ] || return 0
	sed -n -e 's/[[:space:]]*$//' -e "s/[\"']//g" -e 's/^target=/target /p' -e 's/^key=/key /p' "$root/etc/conf.d/dmcrypt" | {
		target=
		while read -r word value; do
			case $word in
			target)
				[ -z "$target" ] || printf 'dmcrypt %s none\n' "$target"
				target=$value
				;;
			key)
				[ -z "$target" ] || printf 'dmcrypt %s %s\n' "$target" "$value"
				target=
				;;
			esac
		done
		[ -z "$target" ] || printf 'dmcrypt %s none\n' "$target"
	}
}

# The initrd that the next boot of this kernel uses.
initrd_file() {
	release=$(uname -r)
	kernel=$(tr ' ' '\n' <"$root/proc/cmdline" | sed -n 's/^BOOT_IMAGE=//p' | head -n 1)
	kernel=${kernel##*/}
	next=$(nixos_next)
	# systemd-boot and the firmware's own loader name it so; the last one is the main one, after microcode.
	named=$(tr ' ' '\n' <"$root/proc/cmdline" | sed -n 's/^initrd=//p' | tail -n 1 | sed 's|\\|/|g')
	for file in "${next:+${next#/}/initrd}" ${named:+"boot/${named#/}" "efi/${named#/}" "boot/efi/${named#/}"} "boot/initrd.img-$release" \
		"boot/initramfs-$release.img" "boot/initrd-$release" "boot/initramfs-${kernel#vmlinuz-}" \
		"boot/initramfs-${kernel#vmlinuz-}.img" "boot/initramfs-${release##*-}"; do
		if [ -f "$root/$file" ]; then printf '%s\n' "$root/$file" && return; fi
	done
}

# main_archive FILE: prints an initrd from where its main archive begins, after an uncompressed one with microcode. To
# skip that takes a grep that counts bytes, which busybox does not have.
main_archive() {
	start=0
	if head -c 4096 "$1" | grep -q -a '^07070.*kernel/x86' || head -c 4096 "$1" | tr '\000' '\n' | grep -q -x 'kernel/x86/microcode\|kernel'; then
		start=$(grep -a -b -o -m 1 'TRAILER!!!' "$1" | head -n 1 | cut -d : -f 1)
		start=$(((${start:-0} + 11 + 3) / 4 * 4))
		zeros=$(od -An -v -tx1 -j "$start" -N 4096 "$1" | tr -d ' \n' | sed 's/^\(\(00\)*\).*/\1/')
		start=$((start + ${#zeros} / 2))
	fi
	tail -c +$((start + 1)) "$1"
}

# initrd_names FILE: prints the names of the files in an initrd
initrd_names() {
	if command -v lsinitramfs >/dev/null; then
		within 20 lsinitramfs "$1"
	elif command -v lsinitrd >/dev/null; then
		within 20 lsinitrd "$1" | sed 's/.* \([^ ]*\)\( -> .*\)\{0,1\}$/\1/'
	elif command -v lsinitcpio >/dev/null; then
		within 20 lsinitcpio "$1"
	else
		# shellcheck disable=SC2046 # the bytes
		set -- "$1" $(main_archive "$1" | od -An -N 4 -tx1 | tr -d ' \n')
		case ${2:-} in
		1f8b*) main_archive "$1" | gzip -dc ;;
		28b52ffd) main_archive "$1" | within 20 zstd -dc ;;
		fd377a58) main_archive "$1" | within 20 xz -dc ;;
		02214c18) main_archive "$1" | within 20 lz4 -dc ;;
		30373037) main_archive "$1" ;;
		esac | within 20 cpio -t
	fi
}

# What of the initrd opens encrypted devices. It is read only if the boot needs one: that may take seconds.
initrd() {
	file=$(initrd_file)
	[ -n "$file" ] || return 0
	names=$(initrd_names "$file")
	[ -n "$names" ] || return 0
	echo read
	printf '%s\n' "$names" | grep -a -i -e keyfile -e '\.key$' -e 'bin/clevis$' -e 'bin/dropbear$' -e 'bin/sshd$' \
		-e 'bin/tinysshd$' -e 'systemd-cryptsetup$' -e 'libtss2-esys' -e 'secrets/' -e 'mandos-client$' -e 'luks' -e 'bin/tang' | head -n 200
	{
		sed -e '/^[[:space:]]*#/d' "$root/etc/crypttab"
		sed -e 's/^[[:space:]]*key=/- - /' "$root/etc/conf.d/dmcrypt"
	} | while read -r _ _ key _; do
		case $key in /?*) if printf '%s\n' "$names" | grep -q -x -F -e "${key#/}" -e "./${key#/}"; then echo "${key#/}"; fi ;; esac
	done
}

# Datasets that a boot needs and that ZFS has encrypted: `zfs ROOT KEYLOCATION here`.
zfs_keys() {
	command -v zfs >/dev/null || return 0
	sets=$(needed_devices | sed -n 's/^[^ ]* zfs //p' | sort -u)
	[ -n "$sets" ] || return 0
	# shellcheck disable=SC2086 # names of datasets; a blank in one only hides that one
	roots=$(within 10 zfs get -H -o value encryptionroot $sets | grep -v '^-$' | sort -u)
	[ -n "$roots" ] || return 0
	# shellcheck disable=SC2086
	within 10 zfs get -H -o name,value keylocation $roots | while read -r name place; do
		state=-
		case $place in file:///*) if [ -e "$root${place#file://}" ]; then state=here; else state=missing; fi ;; esac
		printf 'zfs %s %s %s\n' "$name" "$place" "$state"
	done
	# shellcheck disable=SC2086
	within 10 zfs get -H -o name,value latchset.clevis:decrypt,latchset.clevis:jwe $roots | grep -v '	-$' |
		while read -r name _; do echo "token $name clevis"; done
}

opening() {
	encrypted
	zfs_keys
	crypttab
	dmcrypt
	if [ -e "$root/sys/class/tpm/tpm0" ]; then echo tpm; fi
	if [ -d "$root/etc/initramfs-tools" ] && [ ! -d "$root/etc/dracut.conf.d" ]; then echo initramfs-tools; fi
}
