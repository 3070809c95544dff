"""The clock: whatever waits, measures or dates something asks here, so that a test can let ten minutes pass at once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What tells the time, and lets it pass."""

    def now(self) -> float:
        """Return the time of day, in seconds since 1970."""

    def monotonic(self) -> float:
        """Return seconds since some moment; nobody sets this clock."""

    def sleep(self, seconds: float) -> None:
        """Return when so many seconds have passed."""


class SystemClock:
    """This machine's clock."""

    def now(self) -> float:
        """See Clock."""
        return time.time()

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        time.sleep(seconds)


_current: Clock = SystemClock()


def now() -> float:
    """Return the time of day, in seconds since 1970."""
    return _current.now()


def utc() -> datetime:
    """Return the time of day, in UTC."""
    return datetime.fromtimestamp(_current.now(), UTC)


def monotonic() -> float:
    """Return seconds since some moment, for deadlines and durations."""
    return _current.monotonic()


def sleep(seconds: float) -> None:
    """Wait for so many seconds."""
    _current.sleep(seconds)


@contextmanager
def using(other: Clock) -> Iterator[None]:
    """Let the whole process go by another clock while the body runs: for tests."""
    global _current
    before, _current = _current, other
    try:
        yield
    finally:
        _current = before
