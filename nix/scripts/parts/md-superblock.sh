# shellcheck shell=sh disable=SC2154 # disk-digests.sh sets file, block and size
# md-superblock.sh: a part of disk-digests.sh: where a disk has what Linux' RAID (md) writes anew whenever an array is
# assembled or stopped, though nothing else changes. The formats: include/uapi/linux/raid/md_p.h and
# drivers/md/md-bitmap.h of Linux; the places: super_90_load and super_1_load in drivers/md/md.c. Intel's firmware RAID
# (IMSM), which md runs too: super-intel.c of mdadm.

# read_sector SECTOR: sets `hex` to the 512 bytes there
read_sector() { hex=$(dd if="$file" bs=512 skip="$1" count=1 </dev/null 2>/dev/null | od -An -v -tx1 | tr -d ' \n'); }

# field OFFSET BYTES: prints these bytes of the sector, in hexadecimal
field() { printf '%s' "$hex" | cut -c "$(($1 * 2 + 1))-$((($1 + $2) * 2))"; }

# number OFFSET BYTES: prints that field, which is little-endian, as a number
number() {
	value=0
	at=$(($1 + $2))
	while [ "$at" -gt "$1" ]; do
		at=$((at - 1))
		value=$((value * 256 + 0x0$(field "$at" 1)))
	done
	echo "$value"
}

# hole SECTOR OFFSET BYTES: adds a place to `holes`: its first byte on the disk, and its length
hole() { holes="$holes $(($1 * 512 + $2)):$3"; }

# bitmap SECTOR: a write-intent bitmap's events, events_cleared and state
bitmap() {
	read_sector "$1"
	[ "$(field 0 4)" = 6269746d ] || return 0
	hole "$1" 24 16
	hole "$1" 48 4
}

# version_1 MEMBER OFFSET: versions 1.0, 1.1 and 1.2: utime, events, resync_offset and sb_csum
version_1() {
	at_sector=$(($1 + $2))
	read_sector "$at_sector"
	[ "$(field 0 8)" = fc4e2ba901000000 ] && [ "$(number 144 8)" = "$2" ] || return 0
	hole "$at_sector" 192 28
	[ $(($(number 8 1) & 1)) = 1 ] || return 0
	distance=$(number 96 4)
	[ "$distance" -lt 2147483648 ] || distance=$((distance - 4294967296))
	bitmap $((at_sector + distance))
}

# version_0 SECTOR: version 0.90: the array's number, its state as a whole (utime to recovery_cp), and where the kernel
# has found each disk (major and minor number)
version_0() {
	read_sector "$1"
	case $(field 0 8) in fc4e2ba900000000 | a92b4efc00000000) ;; *) return 0 ;; esac
	hole "$1" 44 4
	hole "$1" 128 48
	disk_at=512
	while [ "$disk_at" -lt 4096 ]; do
		hole "$1" $((disk_at + 4)) 8
		disk_at=$((disk_at + 128))
	done
	bitmap $(($1 + 8))
}

# imsm_at OFFSET: sets `at_sector` and `within` to where this byte of Intel's metadata is: its first sector is the last
# but one of the disk, and the others come before that
imsm_at() {
	within=$(($1 % 512))
	at_sector=$((size - 2))
	[ "$1" -lt 512 ] || at_sector=$((size - 2 - imsm_more + $1 / 512 - 1))
}

# imsm_number OFFSET: prints one byte of it
imsm_number() {
	imsm_at "$1"
	read_sector "$at_sector"
	number "$within" 1
}

# imsm: check_sum and generation_num, and of each volume whether it is `dirty`
imsm() {
	read_sector $((size - 2))
	[ "$(field 0 24)" = 496e74656c20526169642049534d20436667205369672e20 ] || return 0
	hole $((size - 2)) 32 4
	hole $((size - 2)) 44 4
	imsm_bytes=$(number 36 4)
	imsm_more=$(((imsm_bytes - 1) / 512))
	volumes=$(number 57 1)
	volume_at=$((216 + 48 * $(number 56 1)))
	[ "$imsm_more" -lt 64 ] && [ "$volumes" -le 4 ] || return 0
	while [ "$volumes" -gt 0 ] && [ $((volume_at + 164)) -le "$imsm_bytes" ]; do
		imsm_at $((volume_at + 90))
		hole "$at_sector" "$within" 1
		# A volume that migrates has a second map; a map is longer by each member after the first.
		maps=1
		[ "$(imsm_number $((volume_at + 88)))" = 0 ] || maps=2
		volume_at=$((volume_at + 112))
		while [ "$maps" -gt 0 ]; do
			volume_at=$((volume_at + 48 + 4 * $(imsm_number $((volume_at + 16)))))
			maps=$((maps - 1))
		done
		volumes=$((volumes - 1))
	done
}

# member START SECTORS: adds what md changes on a disk or a partition
member() {
	[ "$2" -ge 256 ] || return 0
	version_1 "$1" 0
	version_1 "$1" 8
	version_1 "$1" $((($2 - 16) / 8 * 8))
	version_0 $(($1 + $2 / 128 * 128 - 128))
}

# md_holes: sets `holes` to the places on the disk: FIRST_BYTE:LENGTH, in words
md_holes() {
	holes=
	member 0 "$size"
	[ "$size" -lt 256 ] || imsm
	for part in "$block"/*/partition; do
		folder=${part%/partition}
		[ -r "$folder/start" ] && [ -r "$folder/size" ] || continue
		read -r start <"$folder/start"
		read -r sectors <"$folder/size"
		case $start in '' | *[!0-9]* | ????????????????*) continue ;; esac
		case $sectors in '' | *[!0-9]* | ????????????????*) continue ;; esac
		[ $((start + sectors)) -gt "$size" ] || member "$start" "$sectors"
	done
}
