#!/bin/sh
# restore-state.sh TIME < ARCHIVE
# Makes this machine the node of a state archive from the vault (holdfast/target/restoring.py): stops tailscaled, puts
# the archive (tar.gz, on standard input) in the place of /var/lib/tailscale, for root only, and starts tailscaled.
# What was there is kept in /var/lib/tailscale.before-restore-TIME (0700). Prints that path, if there was something.
# The archive is written to no other file. It is unpacked before tailscaled is stopped: a broken one changes nothing. If
# a later step fails, the old state is put back. Needs systemd, tar and gzip.
set -eu
umask 077
export LC_ALL=C

root=${HOLDFAST_ROOT:-} # a folder that stands for the machine's root, in tests
folder=$root/var/lib/tailscale
new=$folder.holdfast-new

log() { echo "restore-state: $*" >&2; }

fail() {
	log "$*"
	exit 1
}

case ${1:-} in
'' | *[!0-9TZ]*) fail "usage: restore-state.sh TIME < ARCHIVE, TIME as 20260101T120000Z" ;;
esac
before=$folder.before-restore-$1

[ ! -L "$folder" ] || fail "$folder is a link: its state is kept elsewhere"
[ ! -e "$before" ] || fail "$before is there already"
command -v systemctl >/dev/null || fail "there is no systemd here"

# empty: removes what is in the folder, not the folder: it may be a file system of its own
empty() { find "$folder" -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +; }

step=unpack
ended() {
	status=$?
	trap - EXIT
	rm -rf "$new"
	if [ "$step" = moved ]; then
		log "putting back what was there before"
		if mountpoint -q "$folder"; then
			empty
			[ ! -d "$before" ] || { cp -a "$before/." "$folder" && rm -rf "$before"; }
		else
			rm -rf "$folder"
			[ ! -d "$before" ] || mv "$before" "$folder"
		fi
	fi
	[ "$step" = unpack ] || systemctl start tailscaled </dev/null || log "tailscaled does not start"
	exit "$status"
}
trap ended EXIT
# Before anything is changed a broken link may end the script; afterwards it may not (below).
trap 'exit 1' HUP INT TERM PIPE

(umask 022 && mkdir -p "${folder%/*}")
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

step=stop
systemctl stop tailscaled </dev/null || fail "tailscaled cannot be stopped"
kept=
if [ -d "$folder" ] && [ -n "$(find "$folder" -mindepth 1 -maxdepth 1 ! -name lost+found | head -n 1)" ]; then
	kept=$before
fi
if mountpoint -q "$folder"; then
	if [ -n "$kept" ]; then
		cp -a "$folder" "$before.new"
		mv "$before.new" "$before"
	fi
	step=moved
	empty
	cp -a "$state/." "$folder"
else
	if [ -n "$kept" ]; then mv "$folder" "$before"; else rm -rf "$folder"; fi
	step=moved
	mv "$state" "$folder"
fi
[ -z "$kept" ] || chmod 0700 "$before"
chmod 0700 "$folder"
sync
systemctl start tailscaled </dev/null || fail "tailscaled does not start with it"
step=whole
rm -rf "$new"
trap - EXIT
[ -z "$kept" ] || printf '%s\n' "${kept#"$root"}"
