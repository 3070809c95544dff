#!/bin/sh
# efi-boot.sh show ROOT               what the firmware starts
# efi-boot.sh keep ROOT [next]        the standby is first; with `next`, the new system comes before it, once. Without,
#                                     a boot loader that puts itself first comes after the standby, once
# efi-boot.sh settle ROOT [booted]    the new system is first, and the standby's entry is gone; `booted` if it has just
#                                     been started by the firmware
#
# The first boot from the disk is a trial too, where the firmware is UEFI: until it is proved, the standby stays first in
# the firmware's order (BootOrder), and the new system is started once (BootNext). So what hangs, or does not start, ends
# in the standby at the next power cycle. ROOT is where the new system is mounted: `/` when it runs.
# The standby is EFI/holdfast/standby.efi on the EFI system partition (standby.sh). Its entry is found again by that
# path. The new system's is the one that its boot loader made: that leads to a file there which is not ours. If its boot
# loader makes none, or the firmware refused it, `keep ROOT next` makes one for EFI/BOOT/BOOT….EFI; it stays.
# The others keep their order. Prints what way-back.sh prints of the firmware, and as its last line
#   kept: …     or settled: …    what the firmware starts now, read back from it
#   none: WHY                    `keep` has then taken back what it did; what `settle` could do is done
# `show` says `kept: …` if the first that the firmware starts is the standby at ROOT. All can be repeated, and can be
# killed anywhere. Each variable is a file, written by one write(2) (Documentation/filesystems/efivarfs.rst of Linux).
# Needs no more than busybox has. The script may come on standard input, so nothing in it may read that.
set -uf
umask 077
export LC_ALL=C

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests
variables=$root/sys/firmware/efi/efivars
standby='\EFI\holdfast\standby.efi'
name_of_standby='Holdfast standby'
name_of_new='NixOS'
work=
kept= # set while entry and order may have to be taken back

. "${0%/*}/../parts/facts-efi.sh"
. "${0%/*}/../parts/mounted.sh"
. "${0%/*}/../parts/efi-partition.sh"

usage() {
	echo "usage: efi-boot.sh show ROOT | keep ROOT [next] | settle ROOT [booted]" >&2
	exit 2
}

report() {
	for line in BootCurrent BootNext BootOrder; do echo "$line $(efi_numbers "$line")"; done
	sed 's/^/entry /' "$work/entries"
}

none() {
	if [ -n "$kept" ]; then
		kept=
		list
		forget_standby
	fi
	list
	report
	echo "none: $*"
	exit 0
}

list() { efi_entries >"$work/entries"; }

# last_line FILE: prints the end of an error message: what went wrong, without program and file
last_line() { tail -n 1 "$1" | sed 's/.*: //'; }

# holds FILE: does the variable hold what is to be written? It is read through a pipe: GNU cmp believes that two files
# differ if it cannot seek in one of them, and efivarfs has none that can be sought in
holds() { [ -f "$1" ] && cat "$1" 2>/dev/null | cmp -s - "$work/data"; }

# put NAME ESCAPES: writes a variable, in one write, unless it is so already; then reads it back. Sets `why` if it fails
put() {
	file=$variables/$1-$efi_global
	# shellcheck disable=SC2059 # escapes
	printf "\\007\\000\\000\\000$2" >"$work/data"
	if holds "$file"; then return; fi
	chattr -i "$file" 2>/dev/null
	if ! dd if="$work/data" of="$file" bs=65536 count=1 conv=notrunc 2>"$work/error"; then
		why="the firmware does not take $1 ($(last_line "$work/error"))"
		return 1
	fi
	why="the firmware took $1 and does not have it now"
	holds "$file"
}

# take NAME: removes a variable
take() {
	file=$variables/$1-$efi_global
	[ -e "$file" ] || return 0
	chattr -i "$file" 2>/dev/null
	why="the firmware does not remove $1"
	rm -f "$file" 2>/dev/null && [ ! -e "$file" ]
}

# order NUMBER...: writes BootOrder, unless it is so already
order() {
	if [ $# -eq 0 ]; then
		take BootOrder
		return
	fi
	escapes=
	for entry in "$@"; do escapes=$escapes$(number 2 "0x$entry"); done
	put BootOrder "$escapes"
}

# without WORDS NUMBER...: prints the numbers, each once, that are not among the words
without() {
	said=" $1 "
	shift
	for entry in "$@"; do
		case $said in *" $entry "*) ;; *)
			said="$said$entry "
			printf '%s ' "$entry"
			;;
		esac
	done
}

# make NAME PATH: makes an entry, under the first number that is free. Sets `made`
make() {
	made=$(awk '
		{ taken[$1] = 1 }
		END { for (at = 0; sprintf("%04X", at) in taken; at++); printf "%04X", at }' "$work/entries")
	why="the firmware has too many entries"
	[ ! -e "$variables/Boot$made-$efi_global" ] || return 1
	file_path=$(ucs2 "$2")
	device_path="$hard_drive\\004\\004$(number 2 $((4 + ${#file_path} / 4)))$file_path\\177\\377\\004\\000"
	if ! put "Boot$made" "\\001\\000\\000\\000$(number 2 $((${#device_path} / 4)))$(ucs2 "$1")$device_path"; then
		said=$why
		take "Boot$made"
		why=$said
		return 1
	fi
}

# standbys [here]: prints the numbers of the standby's entries; with `here`, only of those for this partition that are on
standbys() {
	awk -F '\t' -v here="${1:+ $partitions }" '
		{ path = tolower($5); gsub(/\\/, "/", path) }
		path == "/efi/holdfast/standby.efi" && (here == "" || $2 == "on" && index(here, " " $4 " ")) { print $1 }
		' "$work/entries"
}

# forget_standby: takes the standby out of order and entries. Returns 1, and sets `why`, if a part of it stays
forget_standby() {
	ours=$(standbys | tr '\n' ' ')
	failed=
	case " $ours" in *" $(efi_numbers BootNext)"*) [ -z "$ours" ] || take BootNext || failed=$why ;; esac
	# shellcheck disable=SC2046 # numbers
	order $(without "$ours" "$@" $(efi_numbers BootOrder)) || failed=$why
	for entry in $ours; do take "Boot$entry" || failed=$why; done
	why=$failed
	[ -z "$failed" ]
}

# on_disk PATH: is the file that an entry leads to on the EFI system partition, and not the standby's?
on_disk() {
	file=$esp$(printf %s "$1" | tr '\134' /)
	[ -f "$file" ] && ! cmp -s "$esp/EFI/holdfast/standby.efi" "$file" || return 1
	# The standby's own boot loader may be the very file that the new system has. Its configuration tells whose it is.
	case $(head -n 1 "$esp/loader/loader.conf" 2>/dev/null) in '# Holdfast standby'*) ;; *) return 0 ;; esac
	! cmp -s "$esp/holdfast/loader.efi" "$file"
}

# removable: prints the path that a firmware starts without an entry
removable() {
	case $(uname -m) in
	x86_64) echo '\EFI\BOOT\BOOTX64.EFI' ;;
	aarch64) echo '\EFI\BOOT\BOOTAA64.EFI' ;;
	riscv64) echo '\EFI\BOOT\BOOTRISCV64.EFI' ;;
	i?86) echo '\EFI\BOOT\BOOTIA32.EFI' ;;
	arm*) echo '\EFI\BOOT\BOOTARM.EFI' ;;
	esac
}

# candidates: prints the entries of this partition that are on and not the standby's, those in the order first: a letter
# (a for NixOS' boot loaders, b for the removable path, c for others), number and path
candidates() {
	awk -F '\t' -v here=" $partitions " -v order="$(efi_numbers BootOrder)" '
		BEGIN { for (at = split(order, numbers, " "); at; at--) place[numbers[at]] = at }
		$2 == "on" && $4 != "-" && index(here, " " $4 " ") {
			path = tolower($5)
			gsub(/\\/, "/", path)
			if (path ~ /^\/efi\/(holdfast|microsoft)\//) next
			rank = "c"
			if (path ~ /^\/efi\/(systemd\/|nixos|limine\/|refind\/)/) rank = "a"
			if (path ~ /^\/efi\/boot\/boot[a-z0-9]*\.efi$/) rank = "b"
			printf "%s\t%06d\t%s\t%s\n", rank, place[$1] ? place[$1] : 99999, $1, $5
		}' "$work/entries" | sort | cut -f 1,3,4
}

# find_new: sets `found` to the entry of the new system; empty if it has none
find_new() {
	found=
	candidates >"$work/candidates"
	while IFS="$(printf '\t')" read -r rank entry path; do
		if [ -n "$found" ] || ! on_disk "$path"; then continue; fi
		# A boot loader without an entry is the new system's rather than a stranger with one.
		if [ "$rank" = c ] && on_disk "$(removable)"; then continue; fi
		found=$entry
	done <"$work/candidates"
}

# require_variables [write]: the firmware's variables are mounted, and can be written
require_variables() {
	state=$(efi_state 2>/dev/null)
	case $state in
	none) none "this system was not started by UEFI" ;;
	*unmounted)
		mount -t efivarfs efivarfs "$variables" 2>"$work/error" ||
			none "the firmware's variables cannot be mounted ($(last_line "$work/error"))"
		;;
	*ro)
		[ -z "${1-}" ] || mount -o remount,rw "$variables" 2>"$work/error" ||
			none "the firmware's variables are read-only ($(last_line "$work/error"))"
		;;
	esac
}

show() {
	require_variables
	list
	find_esp || none "no EFI system partition is mounted below ${new:-/}"
	[ -f "$esp/EFI/holdfast/standby.efi" ] || none "there is no standby below ${new:-/}"
	# shellcheck disable=SC2046 # numbers
	set -- $(efi_numbers BootOrder)
	for entry in $(standbys here); do
		if [ "$entry" = "${1-}" ]; then
			report
			echo "kept: $entry starts the standby"
			exit 0
		fi
	done
	none "the standby is not the first that the firmware starts"
}

keep() {
	require_variables write
	case $state-$(uname -m) in 32*-x86_64) none "the firmware is a 32-bit one, and starts no standby of 64 bit" ;; esac
	list
	kept=1
	find_esp || none "no EFI system partition is mounted below ${new:-/}"
	[ -f "$esp/EFI/holdfast/standby.efi" ] || none "there is no standby below ${new:-/}"
	mine=$(standbys here | head -n 1)
	old=$(standbys | tr '\n' ' ')
	for entry in $old; do
		[ "$entry" = "$mine" ] || take "Boot$entry" || none "$why"
	done
	list
	if [ -z "$mine" ]; then
		make "$name_of_standby" "$standby" || none "$why"
		mine=$made
	fi
	# shellcheck disable=SC2046 # numbers
	order "$mine" $(without "$mine $old" $(efi_numbers BootOrder)) || none "$why"
	if [ -z "$once" ]; then
		put BootNext "$(number 2 "0x$mine")" || none "$why"
		list
		report
		echo "kept: $mine starts the standby"
		return
	fi
	find_new
	if [ -z "$found" ]; then
		on_disk "$(removable)" || none "no boot loader of the new system is at $esp"
		list
		make "$name_of_new" "$(removable)" || none "$why"
		found=$made
		# shellcheck disable=SC2046
		order "$mine" $(without "$mine" "$found" $(efi_numbers BootOrder)) || none "$why"
	fi
	put BootNext "$(number 2 "0x$found")" || none "$why"
	list
	report
	echo "kept: $found starts the new system once, then $mine the standby"
}

settle() {
	require_variables write
	list
	ours=$(standbys | tr '\n' ' ')
	if [ -z "$ours" ]; then
		report
		echo "settled: the firmware has no entry of the standby"
		return
	fi
	found=
	if find_esp; then
		current=$(efi_numbers BootCurrent)
		find_new
		if [ -n "$once" ] && [ -n "$current" ] && grep -q "	${current% }	" "$work/candidates"; then found=${current% }; fi
	fi
	if [ -n "$found" ] && [ "$(efi_numbers BootNext)" = "$found " ]; then take BootNext || none "$why"; fi
	# shellcheck disable=SC2086 # none or one
	forget_standby $found || none "$why"
	list
	report
	if [ -n "$found" ]; then
		echo "settled: $found starts the new system"
	else
		echo "settled: the firmware has no entry of the new system; the others are in their old order"
	fi
}

# Nothing happens before the whole script is here: it comes over a link that may break.
main() {
	case $#-${1-}-${3-} in 2-show- | 2-keep- | 3-keep-next | 2-settle- | 3-settle-booted) ;; *) usage ;; esac
	new=${2%/}
	once=${3-}
	mkdir -p "$root/run/holdfast"
	work=$(mktemp -d "$root/run/holdfast/efi.XXXXXX") || exit 1
	trap 'rm -rf "$work"' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 141' PIPE
	trap 'exit 143' TERM
	: >"$work/entries"
	"$1"
}

main "$@" </dev/null
