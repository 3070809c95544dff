from collections.abc import Callable

import pytest

from holdfast.base.errors import DeadlinePassed, LoginRefused, Unreachable
from holdfast.base.waiting import NotYet, wait_for


def answers(*given: Exception | str) -> Callable[[], str]:
    left = list(given)

    def probe() -> str:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return probe


def test_returns_what_the_probe_returns_and_tells_each_change_once() -> None:
    seen: list[str] = []
    probe = answers(NotYet("no"), NotYet("no"), Unreachable("away", hint="h"), NotYet("booting"), "here")
    assert wait_for("it", probe, deadline_s=20, pause_s=0.01, on_change=seen.append) == "here"
    assert seen == ["no", "away", "booting"]


def test_at_the_deadline_says_what_how_long_and_last_seen() -> None:
    probe = answers(NotYet("no"), Unreachable("connection refused", hint="Switch it on."))
    with pytest.raises(
        DeadlinePassed,
        match=r"Waited \d of 1 s for cottage to come back; last seen: connection refused\. Hint: Switch it on\.",
    ):
        wait_for("cottage to come back", probe, deadline_s=1, pause_s=0.05)


def test_another_error_ends_the_wait() -> None:
    with pytest.raises(LoginRefused, match="stop"):
        wait_for("it", answers(NotYet("no"), LoginRefused("stop")), deadline_s=20, pause_s=0.01)


def test_probe_is_called_once_even_without_time() -> None:
    assert wait_for("it", answers("here"), deadline_s=0) == "here"
