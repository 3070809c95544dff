"""Folders on the origin's disk that only root can look into."""

from typing import Final

from holdfast.base.settings import script
from holdfast.ssh.connection import Connection

MAKE_S: Final = 60


def make_private(target: Connection, *folders: str) -> None:
    """Make folders that only root can look into; each may be there already. Needs nothing that a busybox may lack.

    Args:
        target: a connection to the origin.
        folders: their absolute paths.

    Raises:
        CommandFailed: the disk cannot be written.

    """
    make = ["sh", "-c", script("origin/private-folders.sh"), "private-folders.sh", *folders]
    target.run(make, timeout_s=MAKE_S)
