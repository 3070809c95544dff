"""A terminal as a log: what a command line of Holdfast tells the person who started it."""

import sys

from rich.console import Console

from holdfast.base.text import printable


def console(width_of_a_file: int) -> Console:
    """Return standard output as rich writes to it: as wide as the terminal, or as given where it is a file."""
    return Console(width=None if sys.stdout.isatty() else width_of_a_file)


class TerminalLog:
    """A Log on standard error, so that standard output holds the answer alone.

    Args:
        command: stands before every line for people.

    """

    def __init__(self, command: str) -> None:
        self._command = command

    def say(self, text: str) -> None:
        """See Log."""
        print(f"{self._command}: {printable(text)}", file=sys.stderr)

    def warn(self, text: str) -> None:
        """See Log."""
        self.say(text)

    def line(self, text: str) -> None:
        """See Log."""
        print(text, file=sys.stderr)
