# shellcheck shell=sh disable=SC2154 # kexec-run.sh sets root, initrd, state and allow_no_state; its `add` sets bytes
# kexec-state.sh: a part of kexec-run.sh: finds the Tailscale state to hand over, and checks that the installer will
# take it.

state_limit=67108864 # bytes, packed and unpacked; installer-restore.sh refuses more, and
entries=2000         # more files than this, and
names_limit=262144   # more bytes of names

# open_trusted FILE: opens it as descriptor 3, if only root can have put it there; otherwise says why not and
# fails. The check is of the open file, and only that is read later, by its descriptor. Only root can write to it. In a
# sticky /tmp nobody else can put another file in its place. In a /tmp that is not sticky, a swap between the first look
# and the opening shows: afterwards the name must still be that of the open file, and not a link.
open_trusted() {
	why=$(distrust "$1")
	if [ -z "$why" ]; then
		command exec 3<"$1" || return 1
		why=$(distrust_open "$1")
		[ -n "$why" ] || return 0
		exec 3<&-
	fi
	log "$1 is not used: $why"
	return 1
}

# To open a FIFO would hang.
distrust() { if [ -L "$1" ] || [ ! -f "$1" ]; then echo "not a regular file"; fi; }

distrust_open() {
	read -r inode owner mode names bytes <<END
$(stat -L -c '%d:%i %u %a %h %s' /proc/self/fd/3)
END
	if [ "$owner" != 0 ]; then
		echo "not owned by root"
	elif [ -z "${mode##*[2367]?}" ] || [ -z "${mode##*[2367]}" ]; then
		echo "others may write to it"
	elif [ "$(stat -c %d:%i "$1")" != "$inode" ]; then
		echo "it was replaced meanwhile"
	elif [ "$names" != 1 ]; then
		echo "it has a second name"
	elif [ "$bytes" -gt "$state_limit" ]; then
		echo "it has more than $state_limit bytes"
	fi
}

# Sets `archive`, and opens it, and `live`, the folder of the running tailscaled.
find_state() {
	archive=
	live=$root/var/lib/tailscale
	[ -s "$live/tailscaled.state" ] || live=
	case $state in
	none)
		live=
		allow_no_state=1
		;;
	'')
		found=$root/tmp/tailscale-state.tar.gz
		if { [ -e "$found" ] || [ -L "$found" ]; } && open_trusted "$found"; then archive=$found; fi
		;;
	*)
		open_trusted "$state" || fail "--state: give a file that only root can write"
		archive=$state
		;;
	esac
}

# Bounded: the file may grow while it is read.
pack_archive() { head -c $((state_limit + 1)) <&3; }

pack_live_state() { pack_state "$live" -czhf | head -c $((state_limit + 1)); }

unpacked() { added | gzip -dc 2>/dev/null | head -c $((state_limit + 1)); }

names() { unpacked | tar -tf - 2>/dev/null; }

# Prints why the installer would refuse the archive that was added last, or nothing. installer-restore.sh checks it
# again. All is bounded: a small archive may unpack to any size. busybox' tar strips the `/` or `..` of a path that
# leads out and warns, and lists a hard link as a file with ` -> `.
refusal() {
	if [ "$bytes" -gt "$state_limit" ] || [ "$(unpacked | wc -c)" -gt "$state_limit" ]; then
		echo "it holds more than $state_limit bytes"
	elif ! added | gzip -t 2>/dev/null || ! names >/dev/null; then
		echo "it is not a tar.gz, or damaged"
	elif [ "$(names | wc -l)" -gt "$entries" ] || [ "$(names | wc -c)" -gt "$names_limit" ]; then
		echo "it holds more than $entries files, or very long names"
	elif unpacked | tar -tvf - 2>/dev/null | grep -e '^[^d-]' -e ' -> ' >/dev/null; then
		echo "it holds links, devices or other things that are not files"
	elif unpacked | tar -tf - 2>&1 |
		grep -e '^tar: [Rr]emoving leading ' -e '^/' -e '^\(.*/\)\{0,1\}\.\.\(/.*\)\{0,1\}$' >/dev/null; then
		echo "it holds a path that leads out of it"
	elif ! unpacked | tar -tvf - 2>/dev/null |
		grep ' [1-9][0-9]* [0-9-]* [0-9:]* \(.*/\)\{0,1\}tailscaled\.state$' >/dev/null; then # size, day, time, name
		echo "it has no tailscaled.state, or an empty one"
	fi
}

# add_state WHAT COMMAND...: appends the archive that the command prints. If the installer would refuse it, it says so,
# takes it off again and returns 1.
add_state() {
	what=$1
	shift
	begin=$(size)
	add holdfast/tailscale-state.tar.gz 0100600 "$@"
	why=$(refusal)
	if [ -z "$why" ]; then
		log "hands over the Tailscale state in $what"
		return 0
	fi
	log "$what is not used: $why"
	cut_to "$initrd" "$begin" || exit 1
	return 1
}

# Appends the archive, or else the live state.
add_any_state() {
	if [ -n "$archive" ]; then
		if add_state "$archive" pack_archive; then return; fi
		[ -z "$state" ] || fail "--state: give a tar.gz of /var/lib/tailscale"
	fi
	if [ -n "$live" ]; then
		if add_state "$live" pack_live_state; then return; fi
		fail "the Tailscale state of this system cannot be handed over. Hint: --state takes a tar.gz of what it needs"
	fi
	[ -n "$allow_no_state" ] ||
		fail "no Tailscale state found: the installer would not be on the tailnet. Hint: --allow-no-state starts it anyway"
	log "no Tailscale state: the installer will not be on the tailnet"
}
