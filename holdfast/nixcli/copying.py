"""Copies closures to the target with nix itself, the same way over SSH and with the same host keys."""

import functools
import re
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from holdfast.base.deadline import Deadline
from holdfast.base.errors import CommandFailed
from holdfast.base.log import never_failing
from holdfast.base.settings import script
from holdfast.base.waiting import wait_for
from holdfast.nixcli import commands
from holdfast.ssh import counting
from holdfast.ssh.connection import Connection
from holdfast.ssh.openssh import write_ssh_config

# How many copies in a row may fail although the target answers, without one more store path having arrived. The larger
# number is for what ssh says, or nix about ssh: the link may be one that breaks now and then.
MAX_FAILURES: Final = 2
BROKEN_LINKS: Final = 10
END_OLD_COPIES_S: Final = 30

# What ssh and nix say when the link broke: OpenSSH's clientloop.c and packet.c; nix's src/libutil/serialise.cc and
# src/libstore/ssh.cc. They do not always say it last, so the whole output is searched.
_LINK: Final = re.compile(
    r"unexpected end-of-file|broken pipe|connection (?:reset|closed|timed out|refused)|connection to \S+ closed"
    r"|failed to start ssh connection|client_loop:|timeout, server .{0,80}not responding|no route to host"
    r"|network is unreachable",
    re.IGNORECASE,
)


def looks_like_link(said: str) -> bool:
    """Return whether the output of a failed `nix copy` looks like a broken link."""
    return _LINK.search(said) is not None


class Failures:
    """Counts copies that failed although the target answers."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._missing: int | None = None

    def add(self, *, said: str, missing: int | None) -> bool:
        """Count a failure. Return True if another try is worth it, False if not.

        Args:
            said: what nix and ssh wrote.
            missing: store paths that the target lacked when this copy began; None if nix did not get that far.

        """
        if missing is not None:
            if self._missing is not None and missing < self._missing:
                # The copy before this one sent some.
                self._in_a_row = 0
            self._missing = missing
        self._in_a_row += 1
        return self._in_a_row < (BROKEN_LINKS if looks_like_link(said) else MAX_FAILURES)

    def forget(self) -> None:
        """Count from 0 again: the target was unreachable, so the failures were the link's."""
        self._in_a_row = 0


def copy_closure(
    connect: Callable[[], Connection],
    host: str,
    paths: Sequence[str],
    *,
    root: str | None,
    substitute: bool,
    options: Mapping[str, str],
    timeout_s: float,
    on_line: Callable[[str], None],
    on_bytes: Callable[[int], None] | None = None,
    on_moved: Callable[[int], None] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> None:
    """Copy closures, and connect again as often as the link breaks; what the target has is not sent again.

    Args:
        connect: opens a connection to the installer; called again when a copy failed.
        host: the host's name.
        paths: store paths on the operator.
        root: folder on the target that holds the store (`/mnt`), or None for the installer's own store.
        substitute: whether the target first fetches what it can from its own substituters.
        options: settings for nix (Host.nix_options).
        timeout_s: seconds that it may take, reconnecting included.
        on_line: called with each line for the log.
        on_bytes: called with the bytes copied so far.
        on_moved: called with the bytes that moved so far, also in vain: it only grows.
        meanwhile: called about once a second while nix copies.

    Raises:
        CommandFailed: nix failed too often in a row although the target answers; what was copied is kept.
        DeadlinePassed: it took too long.
        HoldfastError: the first `connect` failed. A target that is unreachable later is waited for.

    """
    progress = commands.CopyProgress()
    show = never_failing(on_bytes or (lambda _copied: None), "the progress of a copy")

    def follow(line: str) -> None:
        text = progress.take(line)
        if on_moved:
            on_moved(progress.moved_bytes)
        show(progress.copied_bytes)
        if text:
            on_line(text)

    deadline = Deadline.after(timeout_s)
    failures = Failures()
    with tempfile.TemporaryDirectory(prefix="holdfast-ssh-") as folder:
        ssh_config, become = _way(connect, Path(folder), again=False)
        while True:
            counting.add(connections=1)
            try:
                commands.run(
                    commands.copy(paths, host, root, substitute=substitute, become=become),
                    timeout_s=deadline.left_s(),
                    options=options,
                    env={"NIX_SSHOPTS": f"-F {shlex.quote(str(ssh_config))}"},
                    on_line=follow,
                    meanwhile=meanwhile,
                )
            except CommandFailed as error:
                failed = error
            else:
                return
            on_line(f"{failed.message} Connecting to {host} to copy the rest, for at most {deadline.left_s():.0f} s.")
            outages: list[str] = []
            ssh_config, become = wait_for(
                "a connection to copy the rest",
                functools.partial(_way, connect, Path(folder), again=True),
                deadline_s=deadline.left_s(),
                on_change=outages.append,
            )
            if outages:
                failures.forget()
            elif not failures.add(said=failed.result.stderr, missing=progress.missing):
                raise failed
            on_line(f"{host} answers{' again' if outages else ''}; copying the rest")
            progress.begin_again()


def _way(connect: Callable[[], Connection], folder: Path, *, again: bool) -> tuple[Path, tuple[str, ...]]:
    """Connect, and return an ssh config with which nix's ssh uses the same login and way, and how that becomes root.

    Args:
        connect: see copy_closure.
        folder: where the ssh config goes.
        again: True after a failed copy, whose nix may still run on the target: it is ended first.

    """
    with connect() as target:
        if again:
            target.run_script(script("installer/end-old-copies.sh"), ["/proc"], timeout_s=END_OLD_COPIES_S)
        method = target.endpoint.elevation.method
        return write_ssh_config(target.link, folder), () if method == "none" else (method, "-n")
