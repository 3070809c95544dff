"""The result of a command, on the target or on the operator."""

import shlex
from dataclasses import dataclass
from typing import Final

from holdfast.base.text import LONGEST_LINE, printable

LAST_LINES: Final = 10


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A command that ended.

    Attributes:
        argv: the command as a list of arguments; never contains a secret.
        host: where it ran; `operator` for this machine.
        exit_status: 0 to 255; 128 plus the signal's number if a signal ended it.
        stdout: its standard output, decoded as UTF-8 with replacement.
        stderr: its standard error, decoded in the same way.
        duration_s: how long it ran, in seconds.

    """

    argv: tuple[str, ...]
    host: str
    exit_status: int
    stdout: str
    stderr: str
    duration_s: float

    def summary(self) -> str:
        """Return one line: what ran where, how it ended, and the last lines of its output."""
        said = (self.stderr.strip() or self.stdout.strip()).splitlines()[-LAST_LINES:]
        tail = " | ".join(printable(line.strip()[:LONGEST_LINE]) for line in said if line.strip())
        command = printable(" ".join(shlex.join(self.argv).split()))
        if len(command) > 120:
            command = command[:117] + "..."
        return f"`{command}` on {self.host} ended with status {self.exit_status}: {tail or '(no output)'}"
