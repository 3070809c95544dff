"""Mounts the new root again, with the flake's own script, in an installer that may not have that script yet."""

from collections.abc import Callable

from tasks.model.host import Host
from tasks.model.results import Built
from tasks.nixcli.copying import copy_closure
from tasks.remote.connection import Connection
from tasks.remote.mounting import ensure_mounted, is_mounted


def mount_again(target: Connection, host: Host, built: Built, *, boot_id: str, on_line: Callable[[str], None]) -> None:
    """See that the new root is mounted; an installer that was booted anew, as the standby, gets the script first.

    Raises:
        UnexpectedState, CommandFailed: see ensure_mounted and copy_closure.

    """
    if built.mount_script and not is_mounted(target):
        copy_closure(host, [built.mount_script], root=None, boot_id=boot_id, on_line=on_line)
    ensure_mounted(target, host.name, built.mount_script)
