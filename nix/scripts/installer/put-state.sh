#!/bin/sh
# put-state.sh ROOT SYSTEM <ARCHIVE
# Runs in the installer, by `sh -c`: standard input is a state archive of the vault (tar.gz). Unpacks it into the new
# root ROOT, where the system SYSTEM (its store path) looks for its Tailscale state: for root only (0700, 0600), and all
# of it or nothing. Prints nothing. It is unpacked beside its place: what was there stays until the whole archive is
# here.
set -eu
umask 077

fail() {
	echo "$*" >&2
	exit 1
}

. "${0%/*}/../parts/state-folder.sh"

place=$(persistent_root "$1" "$2")
folder=$place/var/lib/tailscale
new=$folder.holdfast-new
(umask 022 && mkdir -p "$place/var/lib")
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
