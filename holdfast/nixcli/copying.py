"""Copies closures to the target with nix itself, over the same SSH, with the same host keys."""

import functools
import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from holdfast.base.deadline import Deadline
from holdfast.base.errors import CommandFailed
from holdfast.base.process import run_local
from holdfast.base.settings import script
from holdfast.base.waiting import wait_for
from holdfast.nixcli import commands
from holdfast.ssh.connection import Connection
from holdfast.ssh.openssh import write_ssh_config

# How often in a row a copy may fail, while the target answers, without one store path more having arrived: twice if it
# is nix that complains. What ssh, or nix about ssh, says may be a link that breaks now and then.
FAILURES: Final = 2
BROKEN_LINKS: Final = 10

# What ssh and nix say when the link broke: OpenSSH's clientloop.c and packet.c; nix's src/libutil/serialise.cc and
# src/libstore/ssh.cc. The last word is not always theirs, so the whole output is searched.
_LINK: Final = re.compile(
    r"unexpected end-of-file|broken pipe|connection (?:reset|closed|timed out|refused)|connection to \S+ closed"
    r"|failed to start ssh connection|client_loop:|timeout, server .{0,80}not responding|no route to host"
    r"|network is unreachable",
    re.IGNORECASE,
)


END_S: Final = 30


def looks_like_link(said: str) -> bool:
    """Say whether what a failed `nix copy` wrote looks like a link that broke."""
    return _LINK.search(said) is not None


class Failures:
    """Counts the copies that failed although the target answers."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._missing: int | None = None

    def add(self, *, said: str, missing: int | None) -> bool:
        """Count a failure, and say whether it is worth going on.

        Args:
            said: what nix and ssh wrote.
            missing: store paths that the target lacked when this copy began; None if it did not get that far.

        """
        if missing is not None:
            if self._missing is not None and missing < self._missing:
                # The copy before this one brought some.
                self._in_a_row = 0
            self._missing = missing
        self._in_a_row += 1
        return self._in_a_row < (BROKEN_LINKS if looks_like_link(said) else FAILURES)

    def forget(self) -> None:
        """Count anew: the target was out of reach, so that the failures were the link's."""
        self._in_a_row = 0


def copy_closure(
    connect: Callable[[], Connection],
    host: str,
    paths: Sequence[str],
    *,
    root: str | None,
    timeout_s: float,
    on_line: Callable[[str], None],
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Copy store paths with all that they need, over as many links as that takes; what is there is not sent again.

    Args:
        connect: opens a connection to the installer; called again whenever a copy failed.
        host: the host's name.
        paths: store paths on the operator.
        root: folder on the target below which the store lies (`/mnt`), or None for the installer's own store.
        timeout_s: seconds until all has to be there, reconnecting included.
        on_line: called with what nix says.
        on_bytes: called with the bytes copied so far.

    Raises:
        CommandFailed: nix failed, again, while the target answers; what was copied stays there.
        DeadlinePassed: it was not over in time.
        HoldfastError: whatever `connect` raises at first; a target that is out of reach later is waited for.

    """
    progress = commands.CopyProgress()

    def follow(line: str) -> None:
        text = progress.take(line)
        if text:
            on_line(text)
        if on_bytes:
            on_bytes(progress.copied_bytes)

    deadline = Deadline.after(timeout_s)
    failures = Failures()
    with tempfile.TemporaryDirectory(prefix="holdfast-ssh-") as folder:
        ssh_config = _way(connect, Path(folder), again=False)
        while True:
            try:
                run_local(
                    commands.copy(paths, host, root),
                    timeout_s=deadline.left_s(),
                    env={"NIX_SSHOPTS": f"-F {shlex.quote(str(ssh_config))}"},
                    on_line=follow,
                )
            except CommandFailed as error:
                failed = error
            else:
                return
            on_line(f"{failed.message} Seeing whether {host} answers, to go on with what is missing.")
            outages: list[str] = []
            ssh_config = wait_for(
                "a connection, to go on copying",
                functools.partial(_way, connect, Path(folder), again=True),
                deadline_s=deadline.left_s(),
                on_change=outages.append,
            )
            if outages:
                failures.forget()
            elif not failures.add(said=failed.result.stderr, missing=progress.missing):
                raise failed
            on_line(f"{host} answers{' again' if outages else ''}; going on with what is missing")
            progress.begin_again()


def _way(connect: Callable[[], Connection], folder: Path, *, again: bool) -> Path:
    """See which of its logins the target answers to; return the ssh config with which nix's ssh goes the same way.

    Args:
        connect: see copy_closure.
        folder: where the ssh config goes.
        again: whether a copy of this phase failed before.

    """
    with connect() as target:
        if again:
            target.run_script(script("installer/end-old-copies.sh"), ["/proc"], timeout_s=END_S)
        return write_ssh_config(target.endpoint, folder)
