"""Attempts at one thing that overlap: one that hangs does not hide that the thing is there by now.

A machine that is away swallows what is sent to it, and whoever waits for its answer learns of its return late. So
another attempt begins while earlier ones hang. Only the beginning of an attempt overlaps. What asks a person, or loads
the machine (a login), is done by one at a time.

What an attempt calls does not know whether others are under way: outside of an attempt `patience_s`, `met`, `in_turn`
and `alone` do nothing.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Generic, Self, TypeVar

from holdfast.base import beside, brake, clock
from holdfast.base.errors import Unreachable

T = TypeVar("T")

# From the beginning of one attempt to that of the next, while none gets on.
EVERY_S: Final = 0.5
# How long an attempt waits for the first sign of life. One of them, the patient one, waits as long as it is allowed to,
# so a machine that is slow to answer is met too.
PATIENCE_S: Final = 2.0
# From where an attempt met a server to the beginning of the next. An sshd of OpenSSH 9.8 or newer that is slow to speak
# counts each connection that leaves without a login as one second, and from 15 on refuses its address for so long
# (PerSourcePenalties in sshd_config(5)): fewer than one in a second never add up.
MET_S: Final = 1.25
# An attempt that got on is given so long before another begins.
GETS_ON_S: Final = 3.0
# Nobody has the turn for longer while others wait for it, except while a person is asked.
TURN_S: Final = 5.0
# An SSH server refuses some when more than ten are not logged in (MaxStartups).
MOST: Final = 6
LOOK_S: Final = 0.05


class GivenUp(Exception):
    """Another attempt has succeeded, or nobody waits any more: this one ends here."""


class _Attempt:
    """One attempt, as the others see it."""

    def __init__(self, others: "Overlapping[object]", *, patient: bool) -> None:
        self.others, self.patient = others, patient
        self.moved_at: float | None = None
        self.turn_at: float | None = None
        self.alone = 0
        self.given_up = False

    def moved(self) -> None:
        self.moved_at = clock.monotonic()

    def check(self) -> None:
        if self.given_up:
            raise GivenUp


_current: ContextVar[_Attempt | None] = ContextVar("attempt", default=None)


class Overlapping(Generic[T]):
    """Attempts that overlap; a context manager, which gives up those that are under way.

    Args:
        attempt: one attempt. It must limit its own time. Unreachable means that another may succeed.
        close: ends what an attempt returned too late.
        name: what it is about, for the names of threads.

    """

    def __init__(self, attempt: Callable[[], T], close: Callable[[T], None], name: str) -> None:
        self._attempt, self._close, self._name = attempt, close, name
        self._under_way: list[_Attempt] = []
        self._ended: queue.SimpleQueue[tuple[_Attempt, T | BaseException]] = queue.SimpleQueue()
        self._began_at: float | None = None
        self._met_at: float | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up()

    def first(self) -> T:
        """Return what the first attempt returns that succeeds; the others are given up.

        Raises:
            Unreachable: the patient attempt failed. The others are still under way when this is called again.
            Stopped: the run is cancelled.
            Exception: another error of any attempt.

        """
        while True:
            self._begin_if_due()
            try:
                attempt, ended = self._ended.get_nowait()
            except queue.Empty:
                brake.check()
                clock.sleep(LOOK_S)
                continue
            self._under_way.remove(attempt)
            if isinstance(ended, Unreachable):
                if attempt.patient:
                    raise ended
                continue  # it waited for less long, so its failure says less
            self._give_up()
            if isinstance(ended, BaseException):
                raise ended
            return ended

    def _begin_if_due(self) -> None:
        now = clock.monotonic()
        with self._lock:
            gets_on = any(
                each.alone or (each.moved_at is not None and now - each.moved_at < GETS_ON_S)
                for each in self._under_way
            )
            soon = self._began_at is not None and now - self._began_at < EVERY_S
            soon = soon or (self._met_at is not None and now - self._met_at < MET_S)
            if gets_on or soon or len(self._under_way) >= MOST:
                return
            patient = not any(each.patient for each in self._under_way)
            attempt = _Attempt(self, patient=patient)  # type: ignore[arg-type]  # it sees nothing that others return
            self._under_way.append(attempt)
        self._began_at = now
        beside.start(lambda: self._run(attempt), f"attempt-{self._name}")

    def _run(self, attempt: _Attempt) -> None:
        token = _current.set(attempt)
        try:
            ended: T | BaseException = self._attempt()
        except BaseException as error:  # noqa: BLE001  whoever waits raises it
            ended = error
        finally:
            _current.reset(token)
        with self._lock:
            if not attempt.given_up:
                self._ended.put((attempt, ended))
                return
        if not isinstance(ended, BaseException):
            self._close(ended)

    def _give_up(self) -> None:
        with self._lock:
            for attempt in self._under_way:
                attempt.given_up = True
            self._under_way.clear()
            self._began_at = None
            while not self._ended.empty():
                _, ended = self._ended.get_nowait()
                if not isinstance(ended, BaseException):
                    self._close(ended)

    def met(self) -> None:
        """Know that an attempt has met a server."""
        with self._lock:
            self._met_at = clock.monotonic()

    def take_turn(self, attempt: _Attempt) -> bool:
        """Return whether this attempt has the turn now."""
        now = clock.monotonic()
        with self._lock:
            holding = [each for each in self._under_way if each.turn_at is not None and each is not attempt]
            if any(each.alone or now - (each.turn_at or now) < TURN_S for each in holding):
                return False
            attempt.turn_at = now
            return True


def patience_s(most_s: float) -> float:
    """Return how long to wait for the first sign of life: `most_s`, or less for an attempt that is not the patient one.

    Raises:
        GivenUp: nobody needs this attempt any more.

    """
    attempt = _current.get()
    if attempt is None:
        return most_s
    attempt.check()
    return most_s if attempt.patient else min(most_s, PATIENCE_S)


def met() -> None:
    """Say that this attempt has met a server, which may be slow to speak: the next waits longer before it begins."""
    attempt = _current.get()
    if attempt is not None:
        attempt.others.met()


def is_attempt() -> bool:
    """Return whether this is one of several attempts."""
    return _current.get() is not None


@contextmanager
def in_turn() -> Iterator[None]:
    """Let the body be done by one attempt at a time. To get here is progress, and to get out of it too.

    Raises:
        GivenUp: nobody needs this attempt any more.

    """
    attempt = _current.get()
    if attempt is None or attempt.turn_at is not None:
        yield
        return
    attempt.moved()
    attempt.check()
    while not attempt.others.take_turn(attempt):
        clock.sleep(LOOK_S)
        attempt.check()
    try:
        attempt.moved()
        yield
    finally:
        attempt.turn_at = None
        attempt.moved()


@contextmanager
def alone() -> Iterator[None]:
    """While the body runs, let no other attempt begin, nor get its turn: a person is asked."""
    attempt = _current.get()
    if attempt is None:
        yield
        return
    attempt.alone += 1
    try:
        yield
    finally:
        attempt.alone -= 1
        attempt.moved()
