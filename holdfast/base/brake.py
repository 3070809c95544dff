"""The brake: how work that may take long learns that its run is cancelled, and where it stops.

Whoever runs the work says how to find out (tasks/run/phase.py asks Prefect). The work calls `check` wherever it can
stop without harm: while it waits, between two pieces of an upload, while a local command runs.
"""

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from types import FrameType
from typing import Final

from holdfast.base import clock

# Each question is a request to a server that other runs ask, too.
ASK_S: Final = 5.0
# After a question that got no answer: it may have cost seconds in which the work stood still.
ASK_AGAIN_S: Final = 15.0

Ask = Callable[[], bool | None]
"""Returns whether the run is cancelled; None if that is not known now. It must limit its own time."""


class Stopped(Exception):
    """The run is cancelled, and the work stops here.

    It is no HoldfastError: work that can continue without what failed (a standby, say) must not continue after this.
    """


class _Brake:
    """Asks at a bounded rate. It stops the work once: what then cleans up may wait without being stopped again."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._ask_at = clock.monotonic()
        self._stopped = False
        self.while_held: Callable[[], None] | None = None

    def check(self, *, fresh: bool) -> None:
        if self._stopped or not (fresh or clock.monotonic() >= self._ask_at):
            return
        cancelled = self._ask()
        self._ask_at = clock.monotonic() + (ASK_AGAIN_S if cancelled is None else ASK_S)
        if not cancelled:
            return
        if self.while_held is not None:
            self.while_held()
            self._ask_at = math.inf  # said once
            return
        self._stopped = True
        raise Stopped

    def release(self) -> None:
        """Let it stop the work again, at the next check."""
        self.while_held, self._ask_at = None, clock.monotonic()


_current: ContextVar[_Brake | None] = ContextVar("brake", default=None)


@contextmanager
def obeying(ask: Ask) -> Iterator[None]:
    """While the body runs, let `check` ask this. It asks once before the body begins.

    Raises:
        Stopped: the run is cancelled.

    """
    brake = _Brake(ask)
    brake.check(fresh=True)
    token = _current.set(brake)
    try:
        yield
    finally:
        _current.reset(token)


def check(*, fresh: bool = False) -> None:
    """Stop here if the run is cancelled. Does nothing where nobody obeys a brake.

    Args:
        fresh: whether to ask in any case, as before something that cannot be undone; otherwise every ASK_S seconds.

    Raises:
        Stopped: the run is cancelled.

    """
    brake = _current.get()
    if brake is not None:
        brake.check(fresh=fresh)


def context_without() -> Context:
    """Return a copy of this context in which nothing is stopped, for a thread beside the work."""
    context = copy_context()
    context.run(_current.set, None)
    return context


@contextmanager
def held(tell: Callable[[], None]) -> Iterator[None]:
    """Do not stop while the body runs, because its middle is a worse place than its end. Asks once before the body.

    Also a SIGTERM to this process waits for the end of the body: Prefect's runner sends one when a run is cancelled, or
    when it is ended itself. It kills the process if that does not end within 30 s (Prefect 3.9.1).

    Args:
        tell: called once, in the body, when the run is cancelled there: it says that the work continues.

    Raises:
        Stopped: the run is cancelled already; the body has not begun.

    """
    check(fresh=True)
    brake = _current.get()
    if brake is None:
        yield
        return
    brake.while_held = tell
    try:
        with _sigterm_waits():
            yield
    finally:
        brake.release()


@contextmanager
def _sigterm_waits() -> Iterator[None]:
    """Let a SIGTERM wait until the body has ended. Python has signal handlers only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting = False

    def wait(_signal: int, _frame: FrameType | None) -> None:
        nonlocal waiting
        waiting = True

    before = signal.signal(signal.SIGTERM, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if waiting:
            os.kill(os.getpid(), signal.SIGTERM)
