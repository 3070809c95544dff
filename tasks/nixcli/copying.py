"""Copies closures to the target with nix itself, over the same SSH, with the same host keys."""

import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.model.host import Host
from tasks.nixcli import commands
from tasks.nixcli.run import run_local
from tasks.remote.openssh import write_ssh_config
from tasks.remote.reach import reach


def copy_closure(
    host: Host,
    paths: Sequence[str],
    *,
    root: str | None,
    on_line: Callable[[str], None] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Copy store paths with all that they need; what is there already is not sent again.

    Args:
        host: the host; its installer runs.
        paths: store paths on the operator.
        root: folder on the target below which the store lies (`/mnt`), or None for the installer's own store.
        on_line: called with what nix says.
        on_bytes: called with the bytes copied so far.

    Raises:
        CommandFailed: nix failed; what was copied stays there.
        DeadlinePassed: see Deadlines.copy_s.
        Unreachable, LoginRefused, NotTrusted: see reach.

    """
    progress = commands.CopyProgress()

    def follow(line: str) -> None:
        text = progress.take(line)
        if text and on_line:
            on_line(text)
        if on_bytes:
            on_bytes(progress.copied_bytes)

    with tempfile.TemporaryDirectory(prefix="holdfast-ssh-") as folder:
        # Asks which of its two logins the target answers to; nix's ssh then goes the same way.
        with reach(host) as target:
            config = write_ssh_config(target.endpoint, Path(folder))
        run_local(
            commands.copy(paths, host.name, root),
            timeout_s=host.deadlines.copy_s,
            env={"NIX_SSHOPTS": f"-F {shlex.quote(str(config))}"},
            on_line=follow,
        )
