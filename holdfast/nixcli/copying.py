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
from holdfast.inventory.host import Host
from holdfast.nixcli import commands
from holdfast.ssh.openssh import write_ssh_config
from holdfast.ssh.reach import reach_soon

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
    host: Host,
    paths: Sequence[str],
    *,
    root: str | None,
    boot_id: str,
    on_line: Callable[[str], None] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Copy store paths with all that they need, over as many links as that takes; what is there is not sent again.

    Args:
        host: the host; its installer runs.
        paths: store paths on the operator.
        root: folder on the target below which the store lies (`/mnt`), or None for the installer's own store.
        boot_id: the boot of the installer that the phase looked at.
        on_line: called with what nix says.
        on_bytes: called with the bytes copied so far.

    Raises:
        CommandFailed: nix failed, again, while the target answers; what was copied stays there.
        DeadlinePassed: see Deadlines.copy_s.
        Restarted: the target was rebooted meanwhile.
        Unreachable, LoginRefused, NotTrusted: see reach; a target that is out of reach later is waited for.

    """
    progress = commands.CopyProgress()
    tell = on_line or (lambda _line: None)

    def follow(line: str) -> None:
        text = progress.take(line)
        if text:
            tell(text)
        if on_bytes:
            on_bytes(progress.copied_bytes)

    deadline = Deadline.after(host.deadlines.copy_s)
    failures = Failures()
    with tempfile.TemporaryDirectory(prefix="holdfast-ssh-") as folder:
        ssh_config = _way(host, boot_id, Path(folder), again=False)
        while True:
            try:
                run_local(
                    commands.copy(paths, host.name, root),
                    timeout_s=deadline.left_s(),
                    env={"NIX_SSHOPTS": f"-F {shlex.quote(str(ssh_config))}"},
                    on_line=follow,
                )
            except CommandFailed as error:
                failed = error
            else:
                return
            tell(f"{failed.message} Seeing whether {host.name} answers, to go on with what is missing.")
            outages: list[str] = []
            ssh_config = wait_for(
                "a connection, to go on copying",
                functools.partial(_way, host, boot_id, Path(folder), again=True),
                deadline_s=deadline.left_s(),
                on_change=outages.append,
            )
            if outages:
                failures.forget()
            elif not failures.add(said=failed.result.stderr, missing=progress.missing):
                raise failed
            tell(f"{host.name} answers{' again' if outages else ''}; going on with what is missing")
            progress.begin_again()


def _way(host: Host, boot_id: str, folder: Path, *, again: bool) -> Path:
    """See which of its logins the target answers to; return the ssh config with which nix's ssh goes the same way.

    Args:
        host: the host.
        boot_id: the boot that has to answer: what lies at /mnt in another system is not the new root.
        folder: where the ssh config goes.
        again: whether a copy of this phase failed before.

    """
    with reach_soon(host, boot_id=boot_id) as target:
        if again:
            target.run_script(script("installer/end-old-copies.sh"), ["/proc"], timeout_s=END_S)
        return write_ssh_config(target.endpoint, folder)
