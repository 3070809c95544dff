# shellcheck shell=sh disable=SC2154 # standby.sh has the other half of these variables
# standby-loader.sh: a part of standby.sh: the boot loader that starts the standby.

# Any other boot loader is the final system's. nixos-install sets the profile just before it writes one.
require_no_other() {
	[ ! -L "$root/nix/var/nix/profiles/system" ] || none "a system is installed at $root already"
	for file in "$boot/syslinux.cfg" "$boot/loader/loader.conf"; do
		[ ! -e "$file" ] || ours "$file" || none "$file is another boot loader's"
	done
	[ "$firmware" = BIOS ] || [ ! -e "$loader" ] || same "$tools/boot.efi" "$loader" ||
		none "$loader is another boot loader's"
}

put_uefi() {
	mkdir -p "$boot/EFI/BOOT" "$boot/loader/entries"
	place "$tools/boot.efi" "$ours/loader.efi"
	{
		echo "$mark"
		echo "title Holdfast installer"
		if [ -n "$starter" ]; then
			echo "efi /EFI/holdfast/standby.efi"
		else
			echo "linux /holdfast/kernel"
			echo "initrd /holdfast/initrd"
			echo "initrd /holdfast/handover"
			echo "options $command_line"
		fi
	} >"$work/entry"
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
	initrds=$prefix/holdfast/initrd,$prefix/holdfast/handover
	[ -z "$starter" ] || initrds=$prefix/holdfast/starter,$prefix/holdfast/known
	cat >"$work/syslinux" <<END
$mark
DEFAULT holdfast
PROMPT 0
LABEL holdfast
  LINUX $prefix/holdfast/kernel
  INITRD $initrds
  APPEND $command_line
LABEL new
  BOOT $prefix/holdfast/new.mbr
END
	# They have their blocks before they are needed: bios-boot.sh writes new.mbr in its place.
	dd if=/dev/zero of="$work/new" bs=512 count=1 2>/dev/null
	place "$work/new" "$ours/new.mbr"
	place "$boot_code" "$ours/boot-code"
	place "$work/syslinux" "$boot/syslinux.cfg"
	"$tools/extlinux" --install "$boot" >&2
	# Extlinux leaves it immutable on ext. The new system writes into it, and may have no chattr.
	chattr -i "$boot/ldlinux.sys" 2>/dev/null || true
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

# whole FOLDER HANDOVER: does the installer lie there?
whole() { [ -s "$1/kernel" ] && [ -s "$1/initrd" ] && [ -s "$1/$2" ]; }

# is_complete: is the whole standby on the disk?
is_complete() {
	if [ -f "$known" ]; then
		[ -s "$started_at" ] || return 1
		[ "$firmware" = UEFI ] || [ -s "$ours/kernel" ] || return 1
		told=$(named_handover "$(sed -n 's/^handover \([0-9a-f]*\)$/\1/p' "$known")")
		whole "$root/nix/.holdfast-standby" "$told" || whole "$root/.holdfast-standby" "$told" ||
			whole "$ours" "$told" || return 1
	else
		whole "$ours" handover || return 1
	fi
}

# armed: is it complete, and what the firmware starts?
armed() {
	is_complete || return 1
	if [ "$firmware" = UEFI ]; then
		ours "$boot/loader/loader.conf" && same "$tools/boot.efi" "$loader"
	else
		ours "$boot/syslinux.cfg" && [ "$(digest <"$boot_code")" = "$(head -c 440 "$live$disk" | digest)" ]
	fi
}
