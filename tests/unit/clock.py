"""A clock that a test moves on: sleeping takes no time, and what is due meanwhile happens."""

import heapq
from collections.abc import Callable
from itertools import count

STARTS_AT = 1_790_000_000.0


class FakeClock:
    """A Clock (holdfast/base/clock.py). It moves on only by `sleep`, from event to event."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def now(self) -> float:
        return STARTS_AT + self.passed_s

    def monotonic(self) -> float:
        return 1000.0 + self.passed_s

    def sleep(self, seconds: float) -> None:
        ends = self.passed_s + seconds
        while self._events and self._events[0][0] <= ends:
            due, _, action = heapq.heappop(self._events)
            self.passed_s = max(self.passed_s, due)
            action()
        self.passed_s = max(self.passed_s, ends)

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen when so many seconds have passed from now."""
        heapq.heappush(self._events, (self.passed_s + seconds, next(self._order), action))
