# shellcheck shell=sh disable=SC2154 # kexec-run.sh sets root, here, initrd and keep, and has the functions used here
# kexec-keep.sh: a part of kexec-run.sh, for --keep-for-standby: hands over the image's own kernel, initrd and starter
# too, so that a standby (../any/standby.sh) needs no second upload. They are an archive of their own, after the identity:
# the kernel has unpacked that by then. Whatever prevents it, the hand-over goes on without them.
#
# Only with plenty of memory, so that no machine fails because of it. KEPT is the size of what is handed over, INITRD
# that of the image's own, and UNPACKED what the kernel makes of that, estimated as in holdfast/plan/image.py:
#   memory in all   INITRD + 3 KEPT + 2 UNPACKED + 256 MiB
#       The kernel unpacks to a tmpfs of half of the memory that INITRD and KEPT, still packed, have left: so it is at
#       least INITRD + KEPT + 2 (UNPACKED + KEPT). All that follows takes less: the packed ones are freed, and one file
#       at a time is moved (../installer/standby-keep.sh).
#   memory free     2 INITRD + 3 KEPT + KERNEL + 256 MiB
#       The program kexec reads INITRD and KEPT, the kernel copies them; and what is appended may lie in RAM itself, in
#       a tmpfs or because it is not on the disk yet. Swap does not count.
#   room            KEPT + 64 MiB, where the initrd lies

keep_reserve=262144 # KiB
keep_room=65536     # KiB
keep_squeezed=49152 # KiB of an initrd that unpack to three and a half times their size; the rest is a squashfs
kept_at=            # where they begin; empty without them

in_kib() { echo $((($(length_of "$1") + 1023) / 1024)); }

# number TEXT: prints it, or 0 if it is none
number() { case $1 in '' | *[!0-9]* | ????????????????*) echo 0 ;; *) echo "$1" ;; esac }

meminfo() { number "$(sed -n "s/^$1: *\([0-9]*\) kB\$/\1/p" "$root/proc/meminfo" 2>/dev/null)"; }

# Prints how much memory the next kernel gets, in KiB. On a PC, kexec tells it the firmware's map. What was added later
# (Hyper-V, virtio-mem) is not in that.
next_memory() {
	all=$(meminfo MemTotal)
	mapped=0
	set +f
	for entry in "$root"/sys/firmware/memmap/*; do
		[ -f "$entry/type" ] && read -r type <"$entry/type" && [ "$type" = "System RAM" ] || continue
		{ read -r start <"$entry/start" && read -r end <"$entry/end"; } 2>/dev/null || return
		mapped=$((mapped + (end - start) / 1024))
	done
	set -f
	if [ "$mapped" -gt 0 ] && [ "$mapped" -lt "$all" ]; then all=$mapped; fi
	echo "$all"
}

free_room() {
	number "$(df -Pk "$here" 2>/dev/null | {
		read -r _
		read -r _ _ _ free _
		echo "$free"
	})"
}

# enough WHAT KIB NEEDED: is it? If not, prints that.
enough() {
	[ "$2" -ge "$3" ] && return
	echo "$1: $(($2 / 1024)) MiB, and $((($3 + 1023) / 1024)) are needed"
	return 1
}

# Prints `fits`, or why they are not handed over. It runs in a shell of its own, which an error of arithmetic ends.
keep_verdict() {
	own=$(in_kib "$initrd")
	kernel=$(in_kib "$here/bzImage")
	kept=$((own + kernel))
	[ ! -f "$here/starter" ] || kept=$((kept + $(in_kib "$here/starter")))
	unpacked=$((own + 5 * (own < keep_squeezed ? own : keep_squeezed) / 2))
	enough memory "$(next_memory)" $((own + 3 * kept + 2 * unpacked + keep_reserve)) &&
		enough "free memory" "$(meminfo MemAvailable)" $((2 * own + 3 * kept + kernel + keep_reserve)) &&
		enough "room in $here" "$(free_room)" $((kept + keep_room)) && echo fits
}

# keep_file NAME FILE BYTES: appends the first BYTES bytes of FILE
keep_file() {
	header "holdfast/standby/$1" 0100600 "$3" >>"$initrd" || return 1
	keep_from=$(size)
	head -c "$3" "$2" >>"$initrd" && [ "$(($(size) - keep_from))" = "$3" ] && pad "$3" >>"$initrd"
}

keep_all() {
	kept_at=$(size)
	echo "$kept_at" >"$initrd.plain" && header holdfast/standby 040700 0 >>"$initrd" || return 1
	if [ -f "$here/starter" ]; then keep_file starter "$here/starter" "$(length_of "$here/starter")" || return 1; fi
	keep_file kernel "$here/bzImage" "$(length_of "$here/bzImage")" &&
		keep_file initrd "$initrd" "$(cat "$initrd.length")" && header 'TRAILER!!!' 0 0 >>"$initrd"
}

drop_kept() {
	shorten "$initrd" "$kept_at" || fail "could not take the image off again"
	kept_at=
}

# Called when all else is packed, in an archive that has its end.
add_kept() {
	[ -n "$keep" ] || return 0
	verdict=$(keep_verdict) || verdict=${verdict:-nobody knows whether there is enough memory}
	if [ "$verdict" = fits ]; then
		if keep_all; then
			log "hands over the image itself, for the standby"
			return
		fi
		drop_kept
		verdict="it could not be packed"
	fi
	log "does not hand over the image itself, which a standby needs: $verdict"
}

# The kernel may take the installer, and not what a standby needs.
load_without_kept() {
	[ -n "$kept_at" ] || return 1
	log "tries again without the image itself"
	drop_kept
	load_either_way
}
