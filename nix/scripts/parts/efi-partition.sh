# shellcheck shell=sh disable=SC2154 # efi-boot.sh has the other half of these variables
# efi-partition.sh: a part of efi-boot.sh: the EFI system partition of the new system, and the node of a device path
# that leads to it (UEFI specification 2.10, sections 5.3.3 and 10.3.5.1). Bytes are octal escapes for printf.

# octal: turns the decimal bytes on standard input into escapes
octal() { awk '{ for (field = 1; field <= NF; field++) printf "\\%03o", $field }'; }

# number BYTES VALUE: prints a number, its lowest byte first
number() {
	left=$1
	value=$2
	while [ "$left" -gt 0 ]; do
		printf '\\%03o' $((value & 255))
		value=$((value >> 8))
		left=$((left - 1))
	done
}

# ucs2 TEXT: prints printable ASCII as UCS-2 with its end
ucs2() {
	printf %s "$1" | od -An -v -tu1 | awk '{ for (field = 1; field <= NF; field++) printf "\\%03o\\000", $field }'
	printf '\\000\\000'
}

# bytes_at OFFSET COUNT: prints bytes of the disk, in decimal; both are multiples of 8
bytes_at() { dd if="$disk" bs=8 skip=$(($1 / 8)) count=$(($2 / 8)) 2>/dev/null | od -An -v -tu1 | tr -s '\n ' '  '; }

# little BYTE...: prints the number that these bytes are, the lowest first
little() {
	little=0
	shift_by=0
	for byte in "$@"; do
		little=$((little | byte << shift_by))
		shift_by=$((shift_by + 8))
	done
	echo "$little"
}

# describe DEVICE: of a partition, by its folder in /sys. Sets `partition`, as in /dev/disk/by-partuuid, and `hard_drive`
describe() {
	index=$(cat "$1/partition")
	disk=${1%/*}
	sector=$(cat "$disk/queue/logical_block_size")
	start=$(($(cat "$1/start") * 512 / sector))
	size=$(($(cat "$1/size") * 512 / sector))
	disk=$root/dev/$(printf %s "${disk##*/}" | tr '!' /)
	[ -r "$disk" ] || return 1
	# shellcheck disable=SC2046 # words
	set -- $(bytes_at "$sector" 88)
	if [ "${1-} ${2-} ${3-} ${4-} ${5-} ${6-} ${7-} ${8-}" = '69 70 73 32 80 65 82 84' ]; then # EFI PART
		shift 72
		table=$(little "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$8")
		shift 12
		each=$(little "$1" "$2" "$3" "$4")
		# shellcheck disable=SC2046
		set -- $(bytes_at $((table * sector + (index - 1) * each)) 48)
		[ $# -eq 48 ] || return 1
		shift 16
		signature="$1 $2 $3 $4 $5 $6 $7 $8 $9 ${10} ${11} ${12} ${13} ${14} ${15} ${16}"
		shift 16
		[ "$(little "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$8")" = "$start" ] || return 1
		kinds='\002\002'
		# shellcheck disable=SC2086
		set -- $signature
		partition=$(printf '%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x' \
			"$4" "$3" "$2" "$1" "$6" "$5" "$8" "$7" "$9" "${10}" "${11}" "${12}" "${13}" "${14}" "${15}" "${16}")
	else
		# shellcheck disable=SC2046
		set -- $(bytes_at 440 8) $(bytes_at 504 8)
		[ "${15-} ${16-}" = '85 170' ] || return 1
		signature="$1 $2 $3 $4 0 0 0 0 0 0 0 0 0 0 0 0"
		kinds='\001\001'
		partition=$(printf '%02x%02x%02x%02x-%02x' "$4" "$3" "$2" "$1" "$index")
	fi
	hard_drive="\\004\\001\\052\\000$(number 4 "$index")$(number 8 "$start")$(number 8 "$size")$(echo "$signature" | octal)$kinds"
}

# find_esp: sets `esp`, where the EFI system partition is mounted, `partitions`, of one line for each partition that it
# lies on (RAID 1 has several), and of the first one `partition` and `hard_drive`. One with the standby is preferred.
find_esp() {
	esp=
	for place in "$new/boot/efi" "$new/efi" "$new/boot"; do
		if [ -d "$place/EFI" ]; then # also starts an automount
			# shellcheck disable=SC2046 # two words
			set -- $(mounted "$place")
			if [ "${1-}" = vfat ] && { [ -z "$esp" ] || [ -f "$place/EFI/holdfast/standby.efi" ] && [ ! -f "$esp/EFI/holdfast/standby.efi" ]; }; then
				esp=$place
				device=$2
			fi
		fi
	done
	[ -n "$esp" ] || return 1
	device=$(readlink -f "$root/sys/dev/block/$device") || return 1
	if [ ! -r "$device/partition" ]; then
		set +f
		set -- "$device"/slaves/*
		set -f
		device=
		for member in "$@"; do
			member=$(readlink -f "$member")
			[ ! -r "$member/partition" ] || device="$device $member"
		done
	fi
	partitions=
	first=
	for member in $device; do
		describe "$member" || continue
		partitions="$partitions $partition"
		[ -n "$first" ] || first="$partition $hard_drive"
	done
	[ -n "$first" ] || return 1
	partition=${first%% *}
	hard_drive=${first#* }
}
