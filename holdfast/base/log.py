"""Where work reports to. The run's log in Prefect is one such place (tasks/run/log.py), a terminal another."""

import logging
from collections.abc import Callable
from typing import ParamSpec, Protocol

P = ParamSpec("P")


class Log(Protocol):
    """Takes what people should read. Every line is printable text; none holds a secret."""

    def say(self, text: str) -> None:
        """Take a line about what is being done."""

    def warn(self, text: str) -> None:
        """Take a line that somebody has to look at."""

    def line(self, text: str) -> None:
        """Take a line that a command wrote. May be called from another thread."""


def never_failing(report: Callable[P, object], what: str) -> Callable[P, None]:
    """Return a report that never raises, for work that must go on whatever becomes of its reports.

    A report that fails is dropped. The first one is told to Python's own log, since the run's log may be what fails.

    Args:
        report: takes what is to be reported.
        what: what it reports, as in the sentence "… could not be reported".

    """
    told = False

    def attempt(*args: P.args, **kwargs: P.kwargs) -> None:
        nonlocal told
        try:
            report(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  whatever it is, the work goes on
            if not told:
                told = True
                logging.getLogger(__name__).warning(
                    "%s could not be reported, and the work goes on: %s: %s", what, type(error).__name__, error
                )

    return attempt
