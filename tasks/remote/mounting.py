"""The new root: where it is mounted, how it is mounted again, and the marks that say it is this plan's."""

from typing import Final

from tasks.model.errors import UnexpectedState
from tasks.remote.connection import Connection

ROOT: Final = "/mnt"
MARK_IN_RAM: Final = "/run/holdfast/partition.json"
MARK_ON_DISK: Final = "/mnt/var/lib/holdfast/partition.json"

PROBE_S: Final = 30
MOUNT_S: Final = 300


def ensure_mounted(target: Connection, host: str, mount_script: str) -> None:
    """See that the new root is mounted; mount it with the flake's mountScript if it is not.

    Args:
        target: a connection to the installer.
        host: the host's name, for the message.
        mount_script: store path of the script, which is in the installer's store; may be empty.

    Raises:
        UnexpectedState: nothing is mounted, and there is no script that would.
        CommandFailed: the script failed.

    """
    if is_mounted(target):
        return
    if not mount_script:
        raise UnexpectedState(
            f"the new root of {host} is not mounted at {ROOT}, and the flake has no mountScript.",
            hint="Mount it by hand in the installer, then retry the run.",
        )
    target.run([mount_script], timeout_s=MOUNT_S)
    if not is_mounted(target):
        raise UnexpectedState(
            f"{mount_script} ended well on {host}, but nothing is mounted at {ROOT}.",
            hint="Look at the file systems of the disko configuration: one has to be mounted at /.",
        )


def is_mounted(target: Connection) -> bool:
    """Say whether the new root is mounted."""
    return target.run(["mountpoint", "-q", ROOT], timeout_s=PROBE_S, check=False).exit_status == 0
