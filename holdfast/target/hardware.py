"""Makes the report about a machine's hardware, where the program for it is there."""

import re
from typing import Final

from holdfast.base.errors import CommandFailed, UnexpectedState
from holdfast.base.settings import script
from holdfast.base.text import printable
from holdfast.facts.hardware import MAX_JSON_BYTES, MAX_NIX_BYTES, facter, generated
from holdfast.inventory.hardware import Backend
from holdfast.ssh.connection import Connection

# sysexits(3): EX_UNAVAILABLE.
_NOT_THERE: Final = 69
_ASK_S: Final = 60


def make_report(target: Connection, host: str, backend: Backend) -> str | None:
    """Return the report as a file that the flake may have; None if the machine does not have the program.

    Args:
        target: the machine, in whatever system.
        host: the host's name.
        backend: the program.

    Raises:
        UnexpectedState: it says something that is not taken over, or too much.
        CommandFailed: the program failed.

    """
    argv = ["sh", "-c", script("any/hardware-report.sh"), "hardware-report.sh", backend]
    longest = MAX_JSON_BYTES if backend == "nixos-facter" else MAX_NIX_BYTES
    try:
        said = target.read_output(argv, max_bytes=longest, timeout_s=target.endpoint.look_s)
    except CommandFailed as error:
        if error.result.exit_status == _NOT_THERE:
            return None
        raise
    try:
        return facter(said) if backend == "nixos-facter" else generated(said, host)
    except ValueError as error:
        raise UnexpectedState(
            f"{backend} on {host} made a report that is not taken over: {printable(str(error))}.",
            hint="It comes from the target, and is evaluated on the operator. Look at it there, and write the file"
            " yourself.",
        ) from error


def platform_of(target: Connection) -> str:
    """Return the machine's platform, as Nix names it: `x86_64-linux`.

    Raises:
        UnexpectedState: the machine does not say it.

    """
    arch = target.run(["uname", "-m"], timeout_s=_ASK_S).stdout.strip()
    if not re.fullmatch(r"[a-z0-9_]{1,32}", arch):
        raise UnexpectedState("`uname -m` names no architecture there.", hint="Look at the machine.")
    return f"{arch}-linux"
