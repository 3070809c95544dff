"""Attempts that overlap, with real threads: each waits for an event, and none for a time."""

import threading
from collections.abc import Callable, Iterator
from itertools import count, pairwise

import pytest

from holdfast.base import brake, clock, overlap
from holdfast.base.errors import LoginRefused, Unreachable
from holdfast.base.overlap import Overlapping, alone, in_turn, patience_s

T = 60.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "EVERY_S", 0.02)
    monkeypatch.setattr(overlap, "LOOK_S", 0.005)


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """What hangs ends here."""
    event = threading.Event()
    yield event
    event.set()


def attempts(*each: Callable[[], str], closed: list[str] | None = None) -> Overlapping[str]:
    """Attempts of which each does the next of these things, and the last the last one."""
    number = count()

    def attempt() -> str:
        return each[min(next(number), len(each) - 1)]()

    return Overlapping(attempt, (closed if closed is not None else list[str]()).append, "test")


def fails(error: Exception) -> Callable[[], str]:
    def attempt() -> str:
        raise error

    return attempt


def test_one_that_hangs_does_not_hide_another_and_is_closed_when_it_comes_late(over: threading.Event) -> None:
    closed: list[str] = []
    late = threading.Event()

    def hangs() -> str:
        over.wait(T)
        return "late"

    class Closed(list[str]):
        def append(self, value: str) -> None:
            closed.append(value)
            late.set()

    with attempts(hangs, lambda: "here", closed=Closed()) as trying:
        assert trying.first() == "here"
        over.set()
        assert late.wait(T)
    assert closed == ["late"]


def test_the_patient_one_speaks_for_all_and_other_failures_are_not_heard(over: threading.Event) -> None:
    second = threading.Event()

    def first() -> str:
        assert second.wait(T)
        raise Unreachable("the patient one")

    def younger() -> str:
        second.set()
        raise Unreachable("another")

    with (
        attempts(first, younger, lambda: str(over.wait(T))) as trying,
        pytest.raises(Unreachable, match="the patient one"),
    ):
        trying.first()


def test_another_error_is_raised_whoever_has_it(over: threading.Event) -> None:
    refused = fails(LoginRefused("no"))
    with attempts(lambda: str(over.wait(T)), refused) as trying, pytest.raises(LoginRefused, match="no"):
        trying.first()


def test_those_under_way_are_still_there_after_a_failure(over: threading.Event) -> None:
    begun = threading.Event()

    def second() -> str:
        begun.set()
        over.wait(T)
        return "second"

    def first() -> str:
        assert begun.wait(T)
        raise Unreachable("first")

    with attempts(first, second, lambda: str(threading.Event().wait(T))) as trying:
        with pytest.raises(Unreachable, match="first"):
            trying.first()
        over.set()
        assert trying.first() == "second"


def test_while_a_person_is_asked_no_other_begins() -> None:
    begun = []

    def asks() -> str:
        begun.append(1)
        with alone():
            threading.Event().wait(30 * overlap.EVERY_S)
        return "asked"

    with attempts(asks) as trying:
        assert trying.first() == "asked"
    assert begun == [1]


def test_one_that_gets_on_is_given_time() -> None:
    begun = []

    def gets_on() -> str:
        begun.append(1)
        with in_turn():
            threading.Event().wait(30 * overlap.EVERY_S)
        return "on"

    with attempts(gets_on) as trying:
        assert trying.first() == "on"
    assert begun == [1]


def test_turn_is_one_at_a_time_and_does_not_stay_with_one_that_hangs(
    over: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "GETS_ON_S", 0.0)
    monkeypatch.setattr(overlap, "TURN_S", 0.3)
    order: list[str] = []

    def hangs() -> str:
        with in_turn():
            order.append("first has the turn")
            over.wait(T)
        return "never"

    def second() -> str:
        with in_turn():
            order.append("second has the turn")
        return "second"

    with attempts(hangs, second) as trying:
        assert trying.first() == "second"
    assert order[:2] == ["first has the turn", "second has the turn"]


def test_one_after_another_is_patient(over: threading.Event) -> None:
    """The first fails while others hang that began with less patience: the next that begins has it."""
    said: list[float] = []
    lock = threading.Lock()

    def attempt() -> str:
        with lock:
            number = len(said)
            said.append(patience_s(30))
        if number == 0:
            while len(said) < 3:
                threading.Event().wait(0.01)
            raise Unreachable("the patient one")
        if number == 3:
            return "the next"
        over.wait(T)
        return ""

    with attempts(attempt) as trying:
        with pytest.raises(Unreachable, match="the patient one"):
            trying.first()
        assert trying.first() == "the next"
    less = overlap.PATIENCE_S
    assert said[:4] == [30, less, less, 30]


def test_only_one_is_patient(over: threading.Event) -> None:
    said: list[float] = []

    def attempt() -> str:
        said.append(patience_s(30))
        if len(said) == 2:
            return "done"
        over.wait(T)
        return ""

    with attempts(attempt) as trying:
        trying.first()
    assert said[:2] == [30, overlap.PATIENCE_S]
    assert patience_s(30) == 30


def test_never_more_than_a_few(over: threading.Event) -> None:
    begun: list[int] = []
    first_may_end = threading.Event()

    def attempt() -> str:
        begun.append(1)
        if len(begun) == 1:
            threading.Event().wait(40 * overlap.EVERY_S)
            first_may_end.set()
            raise Unreachable("first")
        over.wait(T)
        return ""

    with attempts(attempt) as trying, pytest.raises(Unreachable):
        trying.first()
    assert len(begun) <= overlap.MOST


def test_a_run_that_is_cancelled_stops_where_it_waits(over: threading.Event) -> None:
    cancelled = False

    def attempt() -> str:
        nonlocal cancelled
        brake.check(fresh=True)  # asks nobody here: the run is stopped in its own thread
        cancelled = True
        over.wait(T)
        return ""

    with brake.obeying(lambda: cancelled), attempts(attempt) as trying, pytest.raises(brake.Stopped):
        brake_soon(trying)


def brake_soon(trying: Overlapping[str]) -> None:
    """Wait, with a brake that asks at each check."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(brake, "ASK_S", 0.0)
        trying.first()


def test_a_server_that_is_slow_to_speak_is_met_less_than_once_a_second() -> None:
    met: list[float] = []

    def slow() -> str:
        met.append(clock.monotonic())
        overlap.met()
        if len(met) < 4:
            raise Unreachable("it says nothing")
        return "here"

    with attempts(slow) as trying:
        for _ in range(3):
            with pytest.raises(Unreachable):
                trying.first()
        assert trying.first() == "here"
    assert all(later - earlier >= overlap.MET_S for earlier, later in pairwise(met))
    assert overlap.MET_S > 1
