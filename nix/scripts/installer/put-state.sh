#!/bin/sh
# put-state.sh ROOT SYSTEM [FOLDER] <ARCHIVE
# Runs in the installer, by `sh -c`: standard input is a state archive of the vault (tar.gz). Unpacks it into the new
# root ROOT, where the system SYSTEM (its store path) looks for its Tailscale state, or into FOLDER below ROOT: for root
# only (0700, 0600), and all of it or nothing. Prints nothing. It is unpacked beside its place: what was there stays
# until the whole archive is here.
set -eu
umask 077

fail() {
	echo "$*" >&2
	exit 1
}

. "${0%/*}/../parts/state-folder.sh"

if [ -n "${3:-}" ]; then
	inner "$3" || fail "$3 is not the path of a folder"
	folder=$1$3
else
	place=$(persistent_root "$1" "$2")
	folder=$place/var/lib/tailscale
fi
new=$folder.holdfast-new
(umask 022 && mkdir -p "${folder%/*}")
rm -rf "$new"
trap 'rm -rf "$new"' EXIT
mkdir "$new"
tar -xzf - -C "$new" --no-same-owner --no-same-permissions
[ -s "$new/tailscaled.state" ] || fail "the archive has no tailscaled.state"
chown -R 0:0 "$new"
find "$new" -type d -exec chmod 0700 {} +
find "$new" -type f -exec chmod 0600 {} +
put_folder "$new" "$folder"
sync
