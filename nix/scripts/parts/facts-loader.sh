# shellcheck shell=sh disable=SC2154 # way-back.sh sets root
# facts-loader.sh: a part of way-back.sh: what the boot loader starts by default. holdfast/facts/boot_loader.py parses it.

# has_file PATH: prints `here` or `missing`: whether a file that a boot loader names is there and not empty, whatever its
# file system is mounted at; `unknown` if the name holds a variable of the boot loader's. Of btrfs and ZFS the boot loader
# sees the whole, so it names subvolumes and datasets, too: `/@root/boot/…`, `/BOOT/ubuntu@/…`.
has_file() {
	path=$(printf '%s' "$1" | sed -e 's/^([^)]*)//' -e "s/[\"']//g" -e 's/\\/\//g' -e 's/^\/*//')
	case $path in '' | *'$'*) echo unknown && return ;; esac
	while :; do
		for place in '' /boot /boot/efi /efi /boot/firmware; do
			if [ -s "$root$place/$path" ]; then echo here && return; fi
		done
		case $path in */*) path=${path#*/} ;; *) break ;; esac
	done
	echo missing
}

# with_state: reads lines, and says of each file of a kernel or an initrd whether it is there
with_state() {
	head -n 2000 | while read -r word rest; do
		case $word in
		linux* | LINUX | kernel | KERNEL | initrd* | INITRD)
			for path in $rest; do
				case $path in
				-*) continue ;; # Fedora's grub.cfg: an option of the command
				esac
				printf '%s %s %s\n' "$word" "$(has_file "$path")" "$path"
				# A kernel's other words are its command line; of initrds there may be more than one.
				case $word in linux* | LINUX | kernel | KERNEL) break ;; esac
			done
			;;
		*) printf '%s\n' "$word $rest" ;;
		esac
	done
}

# What of GRUB's configuration decides the default, and whether it waits for a person: no arguments of kernels, no
# passwords.
grub() {
	for file in boot/grub/grub.cfg boot/grub2/grub.cfg; do
		[ -r "$root/$file" ] || continue
		sed -n -e 's/^[[:space:]]*//' -e '/^menuentry /p' -e '/^submenu /p' -e '/^function /p' -e '/^}/p' \
			-e '/^set default=/p' -e '/^set superusers=/p' -e '/^set timeout=/p' -e '/^blscfg/p' -e '/^linux[a-z0-9]*[[:space:]]/p' \
			-e '/^initrd[a-z0-9]*[[:space:]]/p' "$root/$file" | with_state
		return
	done
}

grub_environment() {
	for file in boot/grub/grubenv boot/grub2/grubenv; do
		[ ! -r "$root/$file" ] || grep -a -e '^saved_entry=' -e '^next_entry=' "$root/$file"
	done
}

# Entries by the Boot Loader Specification: `entry ID`, then their lines; a unified kernel is an entry without lines.
entries() {
	for folder in boot efi boot/efi; do
		set +f
		for file in "$root/$folder"/loader/entries/*.conf "$root/$folder"/EFI/Linux/*.efi; do
			[ -f "$file" ] || continue
			printf 'entry %s\n' "${file##*/}"
			case $file in
			*.conf) grep -e '^linux[[:space:]]' -e '^initrd[[:space:]]' -e '^version[[:space:]]' "$file" | with_state ;;
			esac
		done
		set -f
	done
}

# What systemd-boot and what it told the system: `default PATTERN`, `timeout HOW`, `selected ID`, `oneshot ID`,
# `preferred ID`. What a variable says counts more than the file.
systemd_boot() {
	for folder in boot efi boot/efi; do
		for word in default timeout; do
			sed -n "s/^${word}[[:space:]][[:space:]]*/$word /p" "$root/$folder/loader/loader.conf" | head -n 1
		done
	done
	for pair in selected:LoaderEntrySelected oneshot:LoaderEntryOneShot preferred:LoaderEntryDefault \
		timeout:LoaderConfigTimeout; do
		file=$root/sys/firmware/efi/efivars/${pair#*:}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
		[ ! -r "$file" ] || printf '%s %s\n' "${pair%%:*}" "$(tail -c +5 "$file" | tr -d '\000')"
	done
}

# syslinux and extlinux, also as U-Boot reads it.
syslinux() {
	for file in boot/extlinux.conf boot/extlinux/extlinux.conf boot/syslinux.cfg boot/syslinux/syslinux.cfg; do
		[ -r "$root/$file" ] || continue
		sed -n -e 's/^[[:space:]]*//' -e '/^[Dd][Ee][Ff][Aa][Uu][Ll][Tt][[:space:]]/p' -e '/^[Ll][Aa][Bb][Ee][Ll][[:space:]]/p' \
			-e '/^[Pp][Rr][Oo][Mm][Pp][Tt][[:space:]]/p' -e '/^[Tt][Ii][Mm][Ee][Oo][Uu][Tt][[:space:]]/p' \
			-e '/^INITRD[[:space:]]/s/,/ /g' -e '/^initrd[[:space:]]/s/,/ /g' \
			-e '/^[Mm][Ee][Nn][Uu] [Dd][Ee][Ff][Aa][Uu][Ll][Tt]/p' -e '/^LINUX[[:space:]]/p' -e '/^linux[[:space:]]/p' \
			-e '/^KERNEL[[:space:]]/p' -e '/^kernel[[:space:]]/p' -e '/^INITRD[[:space:]]/p' -e '/^initrd[[:space:]]/p' \
			"$root/$file" | with_state
		return
	done
}

# The NixOS system that the boot loader starts next.
nixos_next() {
	profile=$(readlink "$root/nix/var/nix/profiles/system")
	readlink "$root/nix/var/nix/profiles/${profile##*/}"
}

# NixOS: the system that booted, and the next one.
nixos() {
	[ -e "$root/etc/NIXOS" ] || return 0
	printf 'booted %s\nnext %s\n' "$(readlink "$root/run/booted-system")" "$(nixos_next)"
}
