"""Waiting for something that is not there yet. The only place that imports tenacity."""

from collections.abc import Callable
from typing import TypeVar

import tenacity

from holdfast.base import brake, clock
from holdfast.base.deadline import or_raise
from holdfast.base.errors import NeverCame, Unreachable

T = TypeVar("T")


class NotYet(Exception):
    """Raised by a probe while the awaited thing is not there; the text says what the probe saw."""


def wait_for(
    what: str,
    probe: Callable[[], T],
    *,
    deadline_s: float,
    pause_s: float = 2,
    on_change: Callable[[str], None] | None = None,
) -> T:
    """Call `probe` until it returns, and return what it returned.

    Args:
        what: the awaited thing, as in the sentence "waited for …".
        probe: raises NotYet or Unreachable while the thing is not there; any other exception ends the wait.
            It must limit its own time: a probe that hangs is not interrupted.
        deadline_s: seconds from now after which no further probe starts.
        pause_s: seconds between two probes; up to half as much is added at random, so that many waits
            do not probe at the same moment.
        on_change: called with what was seen, whenever it differs from the last time.

    Raises:
        NeverCame: the deadline passed; the message says what was awaited, for how long, and what was seen last.
        Stopped: the run is cancelled.

    """
    began = clock.monotonic()
    seen = ""

    def look(state: tenacity.RetryCallState) -> None:
        nonlocal seen
        error = state.outcome.exception() if state.outcome else None
        now = (error.message if isinstance(error, Unreachable) else str(error)).removesuffix(".")
        if now != seen and on_change is not None:
            on_change(now)
        seen = now

    def pause(seconds: float) -> None:
        brake.check()
        clock.sleep(seconds)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((NotYet, Unreachable)),
        wait=tenacity.wait_fixed(pause_s) + tenacity.wait_random(0, pause_s / 2),
        stop=lambda state: clock.monotonic() - began + state.upcoming_sleep >= deadline_s,
        sleep=pause,
        after=look,
    )
    try:
        return retrying(probe)
    except tenacity.RetryError as error:
        last = error.last_attempt.exception()
        raise NeverCame(
            f"Waited {clock.monotonic() - began:.0f} of {deadline_s:.0f} s for {what}; last seen: {seen}.",
            hint=f"{last.hint if isinstance(last, Unreachable) else ''}{or_raise(deadline_s)}".strip(),
        ) from last
