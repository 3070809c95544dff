#!/bin/sh
# way-back.sh: prints what decides whether this system comes back after a reboot, on its tailnet, and which network its
# installer has to have, as one JSON object. It changes nothing and prints no secret. It runs once, in the origin, in
# preflight; holdfast/facts/way_back.py parses it. The form is that of facts.sh:
#   {"format": "1", "booted_at": "1764288000\n", … "end": "1"}
# A fact that this machine lacks is an empty string. Needs no more than busybox has.
set -uf
export LC_ALL=C
umask 077

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests

. "${0%/*}/../parts/facts-json.sh"

. "${0%/*}/../parts/facts-tailscaled.sh"

. "${0%/*}/../parts/facts-boot.sh"

. "${0%/*}/../parts/facts-loader.sh"

. "${0%/*}/../parts/facts-starting.sh"

. "${0%/*}/../parts/facts-filesystems.sh"

. "${0%/*}/../parts/facts-opening.sh"

. "${0%/*}/../parts/facts-watchdog.sh"

. "${0%/*}/../parts/facts-efi.sh"

. "${0%/*}/../parts/facts-network.sh"

find_first_tailscaled
# What is asked for only once, since it takes time, and goes into more than one fact.
units=$(systemd_units 2>/dev/null </dev/null)
services=$(boot_services 2>/dev/null </dev/null)
scripts=$(boot_scripts 2>/dev/null </dev/null)
opened=$(opening 2>/dev/null </dev/null)
{
	fact booted_at booted_at
	fact proved proved
	fact fingerprint fingerprint
	fact command_line command_line
	fact decisive_files decisive_files
	fact kernel_release uname -r
	fact grub grub
	fact grub_environment grub_environment
	fact entries entries
	fact systemd_boot systemd_boot
	fact syslinux syslinux
	fact nixos nixos
	fact processes processes
	fact systemd_units printf '%s\n' "$units"
	fact boot_units boot_units
	fact boot_services printf '%s\n' "$services"
	fact boot_scripts printf '%s\n' "$scripts"
	fact container_policy container_policy
	fact opening printf '%s\n' "$opened"
	# It may take seconds, so it is read only if the boot opens something.
	case $opened in *crypt* | *zfs*) fact initrd initrd ;; esac
	fact fstab fstab
	fact mounts mounts
	fact state_file_system state_file_system
	fact errors errors
	fact hibernation hibernation
	fact watchdogs watchdogs
	fact watchdog_core watchdog_core
	fact watchdog_hop watchdog_hop
	fact efi_state efi_state
	fact boot_current efi_numbers BootCurrent
	fact boot_next efi_numbers BootNext
	fact boot_order efi_numbers BootOrder
	fact boot_entries efi_entries
	fact links links
	fact ways_out ways_out
	fact way_to_operator way_to_operator
	fact rules rules
	fact resolvers resolvers
	default_limit=$longest_list
	fact addresses addresses
	fact routes_v4 routes -4
	fact routes_v6 routes -6
	plain end true
} | json
