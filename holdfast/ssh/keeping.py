"""Keeps a connection to a host open for its next use in this process: to open one costs both sides a second or more.

A connection ends with the boot that it was opened on, so a kept one never leads to another boot. It is used by one at a
time. Before the next use it has to answer; else it is closed, and a new one is opened.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from holdfast.ssh.connection import Connection

_lock = threading.Lock()
_idle: dict[str, Connection] | None = None  # by host name; None where nobody keeps any


@contextmanager
def keeping() -> Iterator[None]:
    """While the body runs, keep one idle connection to each host, in all threads. At its end all are closed."""
    global _idle
    with _lock:
        before, _idle = _idle, {}
    try:
        yield
    finally:
        with _lock:
            left, _idle = _idle, before
        for connection in (left or {}).values():
            connection.close()


def lend(connection: Connection) -> Connection:
    """Return the connection, to be kept once whoever uses it is done with it."""
    if _idle is not None:
        connection.kept_by = _give_back
    return connection


def take(host: str, fits: Callable[[Connection], bool]) -> Connection | None:
    """Return the idle connection to a host, if there is one that still answers.

    Args:
        host: the host's name.
        fits: whether it may be used here; one that does not fit stays idle.

    """
    with _lock:
        found = _idle.get(host) if _idle is not None else None
        if _idle is None or found is None or not fits(found):
            return None
        del _idle[host]
    if found.answers():
        return found
    found.close()
    return None


def drop(host: str) -> None:
    """Close the idle connection to a host, which is about to go down."""
    with _lock:
        found = _idle.pop(host, None) if _idle is not None else None
    if found is not None:
        found.close()


def _give_back(connection: Connection) -> None:
    host = connection.endpoint.host
    with _lock:
        keeps = _idle is not None and host not in _idle
        if _idle is not None and keeps:
            _idle[host] = connection
    if not keeps:
        connection.close()
