"""The log of a run: what a phase says, and what commands write, in Prefect and in the run's file.

Prefect needs 47 s at a run's end for 20,000 single log lines, and cuts a message near 1 MB. So what commands write goes
to the file at once, and to Prefect in batches.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from prefect.exceptions import CancelledRun, FailedRun

from holdfast.base import clock
from holdfast.base.brake import Stopped
from holdfast.base.errors import HoldfastError
from holdfast.base.log import Log

BATCH_LINES: Final = 100
BATCH_S: Final = 1.0


class _OneLine(logging.Filter):
    """Drops the traceback of what Holdfast raises on purpose: its message says everything."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record, some without their traceback; drop Prefect's second line about a cancelled run."""
        if record.exc_info and isinstance(record.exc_info[1], CancelledRun):
            return False
        if record.exc_info and isinstance(record.exc_info[1], HoldfastError | Stopped | FailedRun):
            record.exc_info = None
        return True


for _name in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_OneLine())


# Prefect's logger of a run.
LoggingAdapter = logging.Logger | logging.LoggerAdapter[Any]


class RunLog:
    """A Log of a phase, open while the phase runs; lines are expected to be printable text.

    Args:
        file: every line of a command is appended to it.
        logger: takes what is said at once, and the commands' lines in batches: at most BATCH_LINES lines, and no line
            later than about BATCH_S seconds after it came.

    """

    def __init__(self, file: Path, logger: LoggingAdapter) -> None:
        self._file = file
        self._logger = logger
        self._waiting: list[str] = []
        self._shown_at = clock.monotonic()
        self._later: threading.Timer | None = None
        self._lock = threading.RLock()
        self._failed = False

    def __enter__(self) -> Self:
        self._out = self._file.open("a")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._flush()
            with suppress(OSError):  # what could not be written is said already
                self._out.close()

    def say(self, text: str) -> None:
        """See Log."""
        with self._lock:
            self._flush()
            self._logger.info("%s", text)

    def warn(self, text: str) -> None:
        """See Log."""
        with self._lock:
            self._flush()
            self._logger.warning("%s", text)

    def line(self, text: str) -> None:
        """See Log."""
        with self._lock:
            self._write(text + "\n")
            self._waiting.append(text)
            if len(self._waiting) >= BATCH_LINES or clock.monotonic() - self._shown_at > BATCH_S:
                self._flush()
            elif self._later is None:
                # A command, or the wait after it, may be silent for minutes from now on.
                self._later = threading.Timer(BATCH_S, self._flush_later)
                self._later.daemon = True
                self._later.start()

    def _flush_later(self) -> None:
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._waiting:
            self._logger.info("%s", "\n".join(self._waiting))
        self._write("")
        self._waiting.clear()
        self._shown_at = clock.monotonic()

    def _write(self, text: str) -> None:
        """Write to the file; nothing to flush it. A full disk of the operator ends no work on the target."""
        if self._out.closed:
            return  # a thread may still have something to say when the phase has ended
        try:
            self._out.write(text)
            if not text:
                self._out.flush()
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._logger.warning("%s lacks lines from now on, and the work goes on: %s", self._file, error)


_current: ContextVar[Log] = ContextVar("log")


@contextmanager
def reporting_to(log: Log) -> Iterator[None]:
    """While the body runs, make `say`, `warn` and this phase's machine report to this log."""
    token = _current.set(log)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Log:
    """Return the log of the phase that runs."""
    return _current.get()


def say(text: str) -> None:
    """Log a line about what is being done."""
    current().say(text)


def warn(text: str) -> None:
    """Log a line that somebody has to look at."""
    current().warn(text)
