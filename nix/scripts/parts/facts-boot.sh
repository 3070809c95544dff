# shellcheck shell=sh disable=SC2154 # way-back.sh sets root, facts-json.sh text
# facts-boot.sh: a part of way-back.sh: when this system booted, and the files that decide its next boot.
# holdfast/facts/boot.py parses it.

# When this system booted, in seconds since 1970 by its own clock: the kernel corrects it when the clock is set.
booted_at() { sed -n 's/^btime //p' "$root/proc/stat"; }

# What a rehearsal of the origin proved (holdfast/base/places.py, ORIGIN_PROVED).
proved() { [ ! -f "$root/var/lib/holdfast/origin-proved.json" ] || cat "$root/var/lib/holdfast/origin-proved.json"; }

# Words of the kernel's command line that say what it boots from. No others: one may be a secret.
command_line() {
	tr ' ' '\n' <"$root/proc/cmdline" |
		grep -e '^BOOT_IMAGE=' -e '^root=' -e '^resume=' -e '^noresume' -e '^rd\.luks' -e '^luks\.' -e '^crypt' -e '^systemd\.unit='
}

# files_of GROUP: prints the files of a group that exist, relative to the root. What every boot writes is not among them.
files_of() {
	set +f
	case $1 in
	kernel)
		set -- boot/vmlinu[xz]* boot/initr* boot/*.img boot/[zub]*Image* boot/Image* boot/kernels/* boot/firmware/*.img \
			boot/firmware/vmlinuz* boot/EFI/Linux/*.efi efi/EFI/Linux/*.efi boot/efi/EFI/Linux/*.efi boot/EFI/nixos/* \
			efi/EFI/nixos/* boot/efi/EFI/nixos/* boot/[0-9a-f]*/*/linux boot/[0-9a-f]*/*/initrd* efi/[0-9a-f]*/*/linux \
			efi/[0-9a-f]*/*/initrd* boot/efi/[0-9a-f]*/*/linux boot/efi/[0-9a-f]*/*/initrd*
		;;
	loader)
		set -- boot/grub/grub.cfg boot/grub/custom.cfg boot/grub2/grub.cfg boot/grub2/custom.cfg boot/EFI/*/grub.cfg \
			boot/efi/EFI/*/grub.cfg efi/EFI/*/grub.cfg boot/loader/loader.conf boot/loader/entries/*.conf \
			efi/loader/loader.conf efi/loader/entries/*.conf boot/efi/loader/loader.conf boot/efi/loader/entries/*.conf \
			boot/extlinux.conf boot/extlinux/extlinux.conf boot/syslinux.cfg boot/syslinux/*.cfg boot/config.txt \
			boot/cmdline.txt boot/firmware/config.txt boot/firmware/cmdline.txt boot/boot.scr boot/uEnv.txt \
			boot/armbianEnv.txt boot/limine.conf boot/limine.cfg etc/lilo.conf boot/efi/EFI/[!LNln]*/*.efi \
			boot/EFI/[!LNln]*/*.efi efi/EFI/[!LNln]*/*.efi
		;;
	fstab) set -- etc/fstab etc/systemd/system/*.mount ;;
	crypttab) set -- etc/crypttab etc/conf.d/dmcrypt ;;
	network)
		set -- etc/network/interfaces etc/network/interfaces.d/* etc/netplan/* etc/systemd/network/* \
			etc/NetworkManager/NetworkManager.conf etc/NetworkManager/conf.d/* etc/NetworkManager/system-connections/* \
			etc/sysconfig/network-scripts/ifcfg-* etc/sysconfig/network/ifcfg-* etc/sysconfig/network etc/dhcpcd.conf \
			etc/wpa_supplicant/*.conf etc/config/network etc/config/wireless etc/conf.d/net etc/connman/main.conf \
			var/lib/iwd/*.psk
		;;
	tailscaled)
		set -- etc/default/tailscaled etc/conf.d/tailscale* etc/init.d/tailscale* etc/config/tailscale \
			etc/systemd/system/tailscaled.service etc/systemd/system/tailscaled.service.d/*.conf \
			usr/lib/systemd/system/tailscaled.service lib/systemd/system/tailscaled.service etc/sv/tailscaled/run
		;;
	esac
	set -f
	for file; do
		# A refresh of a snap writes mounts that no boot waits for, and the initrd of kdump starts only after a crash.
		case ${file##*/} in snap-*.mount | *kdump*) continue ;; esac
		[ ! -f "$file" ] || printf '%s\n' "$file"
	done | sort -u
}

decisive_groups='kernel loader fstab crypttab network tailscaled'
newline='
'

# with_files GROUP COMMAND...: runs a command with the files of a group as its last arguments, if there are any
with_files() {
	found=$(files_of "$1")
	[ -n "$found" ] || return 0
	shift
	old_ifs=$IFS
	IFS=$newline
	# shellcheck disable=SC2086 # each line is a file
	set -- "$@" $found
	IFS=$old_ifs
	"$@"
}

# Without stat, as on OpenWrt, there is only the time of the content.
print_changes() {
	if command -v stat >/dev/null; then
		stat -L -c '%Z %s %n' -- "$@"
	else
		for file; do printf '%s %s %s\n' "$(date -r "$file" +%s)" "$(wc -c <"$file" | tr -d ' ')" "$file"; done
	fi
}

# Lines: `kernel 1764200000 8123456 boot/vmlinuz-6.1`, with the time when the file was put there. That is not the time of
# its content, which a package brings along.
decisive_files() {
	cd "$root/" || return
	for group in $decisive_groups; do
		with_files "$group" print_changes | sed "s/^/$group /"
	done
}

print_stamps() {
	if command -v stat >/dev/null; then
		stat -L -c '%s %Y %n' -- "$@"
	else
		for file; do printf '%s %s %s\n' "$(wc -c <"$file" | tr -d ' ')" "$(date -r "$file" +%s)" "$file"; done
	fi
}

# A digest of all that decides the next boot. Kernels and initrds are large: their size and time have to do.
fingerprint() {
	{
		cd "$root/" || return
		with_files kernel print_stamps
		for group in $decisive_groups; do
			[ "$group" = kernel ] || with_files "$group" sha256sum
		done
		grub_environment
		nixos_next
		printf '%s\n' "$services" "$scripts"
		# Not those of this login: they have another number each time.
		printf '%s\n' "$units" | grep -e '^Id=' -e '^UnitFileState=' | tr '\n' ' ' | sed 's/Id=/\
Id=/g' | grep -v -e '\.scope' -e '@' | sort -u
	} | sha256sum | cut -c 1-64
}
