"""Puts a state archive from the operator into the new root, where the final system's tailscaled reads it."""

from holdfast.base.places import STATE_DIR
from holdfast.base.settings import script
from holdfast.ssh.connection import Connection


def put_state(
    target: Connection, archive: bytes, root: str, system: str, folder: str = STATE_DIR, *, timeout_s: float
) -> None:
    """Unpack a state archive into the new root, for root only (0700, 0600): the whole of it, or nothing.

    Args:
        target: a connection to the installer.
        archive: a checked state archive; it travels on standard input, and no other file there holds it.
        root: where the new root is mounted.
        system: store path of the system that is installed there.
        folder: where that system has the folder of its state, behind its bind mounts.
        timeout_s: seconds until it has to be there.

    Raises:
        CommandFailed: the archive could not be unpacked; what was there before is untouched.

    """
    elsewhere = [folder] if folder != STATE_DIR else []
    command = ["sh", "-c", script("installer/put-state.sh"), "put-state", root, system, *elsewhere]
    target.run(command, stdin=archive, timeout_s=timeout_s)
