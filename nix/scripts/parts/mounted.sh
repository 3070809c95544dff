# shellcheck shell=sh disable=SC2154 # the scripts that it is a part of set root
# mounted.sh: a part of efi-boot.sh and bios-boot.sh: what the kernel says of a mount point (proc(5)).

# mounted PLACE: prints file system and MAJOR:MINOR of what is mounted exactly there
mounted() {
	awk -v place="$1" '
		$5 == place {
			for (at = 7; at < NF && $at != "-"; at++);
			said = $(at + 1) " " $3
		}
		END { if (said != "") print said }' "$root/proc/self/mountinfo"
}
