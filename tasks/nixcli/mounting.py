"""Mounts the new root again, with the flake's own script, in an installer that may not have that script yet."""

from collections.abc import Callable
from contextlib import nullcontext

from tasks.model.host import Host
from tasks.model.results import Built
from tasks.nixcli.copying import copy_closure
from tasks.remote.connection import Connection
from tasks.remote.mounting import ensure_mounted, is_mounted
from tasks.remote.secrets import keys_in_ram


def mount_again(target: Connection, host: Host, built: Built, *, boot_id: str, on_line: Callable[[str], None]) -> None:
    """See that the new root is mounted; an installer that was booted anew gets the script and the keys for it first.

    Raises:
        UnexpectedState, CommandFailed: see ensure_mounted and copy_closure.
        ConfigError, CommandFailed: see keys_in_ram.

    """
    if is_mounted(target):
        return
    if built.mount_script:
        copy_closure(host, [built.mount_script], root=None, boot_id=boot_id, on_line=on_line)
    with keys_in_ram(host, lambda: nullcontext(target), on_line=on_line):
        ensure_mounted(target, host.name, built.mount_script)
