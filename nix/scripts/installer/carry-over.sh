#!/bin/sh
# carry-over.sh [--system STORE_PATH] [--keep-others] [PLACE...] ROOT WHAT...
# Runs in the installer: copies what makes this machine itself into the new root ROOT. It takes it from the live system,
# never from an archive, which may be older. WHAT is any of
#   tailscale-state   /var/lib/tailscale, as tailscaled has it now, with the origin's preferences
#   host-keys         /etc/ssh/ssh_host_*
#   machine-id        /etc/machine-id
# Prints what it carried, one word a line:
#   tailscale-state
#   host-keys
# --system: puts them where this system keeps them: in the persistent root that it names (parts/state-folder.sh).
# PLACE: where the new system keeps it, if not there: a path below ROOT, behind the bind mounts of the new system.
#   --state-folder FOLDER       instead of /var/lib/tailscale
#   --machine-id FILE           instead of /etc/machine-id
#   --host-key TYPE FILE        for the host key of that type (`ed25519`), in addition to /etc/ssh; may be repeated
# --keep-others: leaves a state in the new root that this script did not put there, and carries none.
# Everything is written beside its place first and then renamed, so a run that breaks off can be repeated. The script
# may come on standard input, so nothing in it may read that.
set -eu
umask 077

live=${HOLDFAST_ROOT:-} # a folder that stands for the installer's root, in tests

log() { echo "carry-over: $*" >&2; }

fail() {
	log "$*"
	exit 1
}

system=
keep_others=
state_folder=
machine_id=
host_keys= # words TYPE=FILE

# below FILE: checks a path below ROOT
below() { inner "$1" || fail "$1 is not an absolute path"; }

. "${0%/*}/../parts/state-folder.sh"
. "${0%/*}/../parts/copy-state.sh"

while [ $# -gt 0 ]; do
	case $1 in
	--system)
		[ $# -ge 2 ] || fail "--system needs a value"
		system=$2
		shift 2
		;;
	--keep-others)
		keep_others=1
		shift
		;;
	--state-folder | --machine-id)
		[ $# -ge 2 ] || fail "$1 needs a value"
		below "$2"
		if [ "$1" = --machine-id ]; then machine_id=$2; else state_folder=$2; fi
		shift 2
		;;
	--host-key)
		[ $# -ge 3 ] || fail "--host-key needs a type and a file"
		case $2 in '' | *[!a-z0-9-]*) fail "$2 is not a type of host key" ;; esac
		below "$3"
		host_keys="$host_keys $2=$3"
		shift 3
		;;
	*) break ;;
	esac
done
[ $# -ge 1 ] || fail "usage: carry-over.sh [--system STORE_PATH] [--keep-others] ROOT WHAT..."
root=${1%/}
shift
case $root in
/?*) ;;
*) fail "$root is not the path of a new root" ;;
esac
[ -d "$root" ] || fail "$root is not there"

# Where in the new root the new system looks for what is carried.
place=$root
if [ -n "$system" ]; then
	inner "$system" || fail "$system is not a store path"
	place=$(persistent_root "$root" "$system")
fi
state=${state_folder:+$root$state_folder}
state=${state:-$place/var/lib/tailscale}
machine_id=${machine_id:+$root$machine_id}
machine_id=${machine_id:-$place/etc/machine-id}

# put FILE PLACE MODE: copies a file, for root
put() {
	cp "$1" "$2.holdfast-new"
	chown 0:0 "$2.holdfast-new"
	chmod "$3" "$2.holdfast-new"
	mv -f "$2.holdfast-new" "$2"
}

# make FOLDER...: makes folders, with those above them; a folder that is there keeps its mode
make() { (umask 022 && mkdir -p "$@"); }

# The mark of the state that this script put there: its digest, which tells it from the state of somebody else.
mark=$place/var/lib/holdfast/carried
digest() { sha256sum <"$state/tailscaled.state" | cut -d ' ' -f 1; }

of_others() {
	[ -s "$state/tailscaled.state" ] && ! { [ -f "$mark" ] && [ "$(cat "$mark")" = "$(digest)" ]; }
}

carry_state() {
	[ -s "$live/var/lib/tailscale/tailscaled.state" ] || fail "the installer has no Tailscale state to carry"
	new=$state.holdfast-new
	make "$place/var/lib/holdfast" "${state%/*}"
	rm -rf "$new"
	copy_state "$live/var/lib/tailscale" "$new" || fail "the installer's Tailscale state could not be copied"
	chown -R 0:0 "$new"
	chmod 0700 "$new"
	# tailscale-prefs.sh switched some preferences off in the installer, and left a copy of itself beside them.
	if [ -s "$live/run/holdfast/prefs.json" ]; then
		sh "$live/run/holdfast/tailscale-prefs.sh" put-back "$new/tailscaled.state" "$live/run/holdfast/prefs.json" \
			</dev/null || fail "the origin's Tailscale preferences could not be put back"
	fi
	put_folder "$new" "$state"
	digest >"$mark"
}

for what in "$@"; do
	case $what in
	tailscale-state)
		if [ -n "$keep_others" ] && of_others; then
			log "the new root has a Tailscale state of its own, which stays: $state"
			continue
		fi
		carry_state
		;;
	host-keys)
		make "$place/etc/ssh"
		found=
		for key in "$live"/etc/ssh/ssh_host_*; do
			[ -f "$key" ] || continue
			case $key in
			*.pub) put "$key" "$place/etc/ssh/${key##*/}" 0644 ;;
			*) put "$key" "$place/etc/ssh/${key##*/}" 0600 ;;
			esac
			found=1
		done
		[ -n "$found" ] || fail "the installer has no SSH host keys to carry"
		for host_key in $host_keys; do
			key=$live/etc/ssh/ssh_host_${host_key%%=*}_key
			file=$root${host_key#*=}
			[ -f "$key" ] || continue
			make "${file%/*}"
			put "$key" "$file" 0600
			[ ! -f "$key.pub" ] || put "$key.pub" "$file.pub" 0644
		done
		;;
	machine-id)
		make "${machine_id%/*}"
		[ -s "$live/etc/machine-id" ] || fail "the installer has no machine-id to carry"
		put "$live/etc/machine-id" "$machine_id" 0444
		;;
	*) fail "there is nothing called $what to carry" ;;
	esac
	echo "$what"
done
# systemd-timesyncd(8) sets the clock to this file's time when it starts, and keeps it up to date. A machine without a
# hardware clock then starts with today's date. A link could lead out of the new root.
clock=$place/var/lib/systemd/timesync/clock
if [ ! -L "$place/var/lib/systemd" ] && [ ! -L "${clock%/*}" ] && [ ! -L "$clock" ]; then
	make "${clock%/*}"
	(umask 022 && touch "$clock")
fi
sync
