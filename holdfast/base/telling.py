"""Telling a person something now, from deep within work that only returns a result."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from holdfast.base.log import Log

_listener: Final[ContextVar[Log | None]] = ContextVar("listener", default=None)


@contextmanager
def telling(log: Log) -> Iterator[None]:
    """While the body runs, let `tell` say its lines to this log."""
    token = _listener.set(log)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(text: str) -> None:
    """Say a line that a person must read now. It is lost where nobody listens.

    Args:
        text: printable.

    """
    log = _listener.get()
    if log is not None:
        log.warn(text)
