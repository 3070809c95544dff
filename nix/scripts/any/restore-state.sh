#!/bin/sh
# restore-state.sh show
# restore-state.sh TIME STATE LOCK < ARCHIVE
# Makes this machine the node of a state archive from the vault (holdfast/target/restoring.py): stops tailscaled, puts
# the archive (tar.gz, on standard input) in the place of /var/lib/tailscale, for root only, and starts tailscaled.
# What was there is kept in /var/lib/tailscale.before-restore-TIME (0700). Prints that path, if there was something.
# The archive is written to no other file. It is unpacked before tailscaled is stopped: a broken one changes nothing. If
# a later step fails, the old state is put back. Needs systemd, tar and gzip.
# `show` prints two words, STATE and LOCK: digests of tailscaled's state file and of the lock (lock.sh), or `none`. The
# caller then decides. If either has changed since, because a person has logged in or a run has begun, the script ends
# with status 3 and changes nothing. Between that look and the start of tailscaled no run can take the lock.
set -eu
umask 077
export LC_ALL=C

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests
state_folder=$root/var/lib/tailscale
new=$state_folder.holdfast-new

log() { echo "restore-state: $*" >&2; }

fail() {
	log "$*"
	exit 1
}

. "${0%/*}/../parts/lock-alone.sh"

# digest FILE: prints the digest of what is in it, or `none`
digest() {
	if [ ! -f "$1" ]; then
		echo none
		return
	fi
	set -- "$(sha256sum <"$1")"
	echo "${1%% *}"
}

seen_state() { digest "$state_folder/tailscaled.state"; }

if [ "${1:-}" = show ] && [ $# -eq 1 ]; then
	echo "$(seen_state) $(digest "$file")"
	exit 0
fi
case $#-${1:-} in
3-*[!0-9TZ]* | 3-) usage=1 ;;
3-*) usage= ;;
*) usage=1 ;;
esac
[ -z "$usage" ] || fail "usage: restore-state.sh show | restore-state.sh TIME STATE LOCK < ARCHIVE"
before=$state_folder.before-restore-$1

[ ! -L "$state_folder" ] || fail "$state_folder is a link: its state is kept elsewhere"
[ ! -e "$before" ] || fail "$before is there already"
command -v systemctl >/dev/null || fail "there is no systemd here"

# changed WHAT: ends, with the status for what has changed since `show`
changed() {
	log "$*: nothing is restored"
	exit 3
}

# empty: removes what is in the folder, not the folder: it may be a file system of its own
empty() { find "$state_folder" -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +; }

step=unpack
ended() {
	status=$?
	trap - EXIT
	rm -rf "$new"
	if [ "$step" = moved ]; then
		log "putting back what was there before"
		if mountpoint -q "$state_folder"; then
			empty
			[ ! -d "$before" ] || { cp -a "$before/." "$state_folder" && rm -rf "$before"; }
		else
			rm -rf "$state_folder"
			[ ! -d "$before" ] || mv "$before" "$state_folder"
		fi
	fi
	[ "$step" = unpack ] || systemctl start tailscaled </dev/null || log "tailscaled does not start"
	not_alone
	exit "$status"
}
trap ended EXIT
# Before anything is changed a broken link may end the script; afterwards it may not (below).
trap 'exit 1' HUP INT TERM PIPE

(umask 022 && mkdir -p "${state_folder%/*}")
rm -rf "$new"
mkdir "$new"
tar -xzf - -C "$new" --no-same-owner --no-same-permissions || fail "the archive is damaged"
# The archive may hold /var/lib/tailscale itself, or only what is in it.
state=$new
[ -e "$state/tailscaled.state" ] || state=$new/var/lib/tailscale
[ -s "$state/tailscaled.state" ] || fail "the archive has no tailscaled.state"
trap '' HUP INT TERM PIPE
chown -R 0:0 "$new"
find "$new" -type d -exec chmod 0700 {} +
find "$new" -type f -exec chmod 0600 {} +

alone
[ "$(digest "$file")" = "$3" ] || changed "a run has begun on this machine"
[ "$(seen_state)" = "$2" ] || changed "tailscaled's state is another than a moment ago"
step=stop
systemctl stop tailscaled </dev/null || fail "tailscaled cannot be stopped"
[ "$(seen_state)" = "$2" ] || changed "tailscaled's state is another than a moment ago"
kept=
if [ -d "$state_folder" ] && [ -n "$(find "$state_folder" -mindepth 1 -maxdepth 1 ! -name lost+found | head -n 1)" ]; then
	kept=$before
fi
if mountpoint -q "$state_folder"; then
	if [ -n "$kept" ]; then
		cp -a "$state_folder" "$before.new"
		mv "$before.new" "$before"
	fi
	step=moved
	empty
	cp -a "$state/." "$state_folder"
else
	if [ -n "$kept" ]; then mv "$state_folder" "$before"; else rm -rf "$state_folder"; fi
	step=moved
	mv "$state" "$state_folder"
fi
[ -z "$kept" ] || chmod 0700 "$before"
chmod 0700 "$state_folder"
sync
systemctl start tailscaled </dev/null || fail "tailscaled does not start with it"
step=whole
rm -rf "$new"
trap - EXIT
not_alone
[ -z "$kept" ] || printf '%s\n' "${kept#"$root"}"
