"""Where work reports to. The run's log in Prefect is one such place (tasks/run/log.py), a terminal another."""

from typing import Protocol


class Log(Protocol):
    """Takes what people should read. Every line is printable text; none holds a secret."""

    def say(self, text: str) -> None:
        """Take a line about what is being done."""

    def warn(self, text: str) -> None:
        """Take a line that somebody has to look at."""

    def line(self, text: str) -> None:
        """Take a line that a command wrote. May be called from another thread."""
