"""A state archive from the operator into the new root, where the final system's tailscaled looks for it."""

from typing import Final

from holdfast.ssh.connection import Connection

# $1 the new root, $2 the system's store path. Where a system with a root that does not last keeps its state stands in
# a file of it (nix/host.nix), as carry-over.sh reads it. What is unpacked lies beside its place until it is whole.
_PUT: Final = """
set -eu
umask 077
fail() { echo "$*" >&2; exit 1; }
place=$1
file=$1$2/holdfast-persistent-root
if [ -L "$file" ] || [ -e "$file" ]; then
  [ ! -L "$file" ] && [ -f "$file" ] || fail "$file is not a regular file"
  persistent=$(cat "$file")
  persistent=${persistent%/}
  case $persistent/ in
    */../* | *//* | *[!A-Za-z0-9/._+=@:-]*) fail "$file does not hold an absolute path" ;;
    /*) ;;
    *) fail "$file does not hold an absolute path" ;;
  esac
  place=$1$persistent
fi
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
if mountpoint -q "$folder"; then # a file system of its own stays where it is
  find "$folder" -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +
  cp -a "$new/." "$folder"
else
  rm -rf "$folder"
  mv "$new" "$folder"
fi
sync
"""


def put_state(target: Connection, archive: bytes, root: str, system: str, *, timeout_s: float) -> None:
    """Unpack a state archive into the new root: root's alone (0700, 0600), and the whole of it or nothing.

    Args:
        target: a connection to the installer.
        archive: a checked state archive; it travels on standard input and is in no other file there.
        root: where the new root is mounted.
        system: store path of the system that is installed there.
        timeout_s: seconds until it has to be there.

    Raises:
        CommandFailed: it could not be unpacked; what was there before is untouched.

    """
    target.run(["sh", "-c", _PUT, "put-state", root, system], stdin=archive, timeout_s=timeout_s)
