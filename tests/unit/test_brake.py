"""The brake: what asks, how often, and where a cancelled run stops."""

import math
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from holdfast.base import brake, clock, process
from holdfast.base.brake import ASK_AGAIN_S, ASK_S, Stopped, obeying
from holdfast.base.errors import DeadlinePassed, NeverCame
from holdfast.base.waiting import NotYet, wait_for
from tests.unit.clock import FakeClock


@pytest.fixture
def time() -> Iterator[FakeClock]:
    made = FakeClock()
    with clock.using(made):
        yield made


class Run:
    """A run that is cancelled at some moment, and how often it was asked."""

    def __init__(self, at: float = math.inf, *, known: bool = True) -> None:
        self.at, self.known, self.asked_at = at, known, list[float]()

    def ask(self) -> bool | None:
        self.asked_at.append(clock.monotonic() - 1000)
        return clock.monotonic() - 1000 >= self.at if self.known else None


def never() -> None:
    raise NotYet("not there")


@pytest.mark.usefixtures("time")
def test_a_cancelled_run_does_not_begin() -> None:
    with pytest.raises(Stopped), obeying(Run(at=0).ask):
        raise AssertionError("the body began")


def test_a_wait_stops_soon_and_asks_seldom(time: FakeClock) -> None:
    run = Run(at=100)
    with pytest.raises(Stopped), obeying(run.ask):
        wait_for("it", never, deadline_s=10_000, pause_s=0.1)
    assert 100 <= time.passed_s <= 100 + ASK_S + 1
    assert min(after - before for before, after in zip(run.asked_at, run.asked_at[1:], strict=False)) >= ASK_S


def test_a_server_that_does_not_answer_stops_nothing_and_is_asked_again(time: FakeClock) -> None:
    run = Run(at=0, known=False)
    with obeying(run.ask), pytest.raises(NeverCame):
        wait_for("it", never, deadline_s=100, pause_s=1)
    assert len(run.asked_at) > 3
    assert run.asked_at[2] - run.asked_at[1] >= ASK_AGAIN_S
    time.at(5, lambda: setattr(run, "known", True))
    with pytest.raises(Stopped), obeying(run.ask):
        wait_for("it", never, deadline_s=100, pause_s=1)


@pytest.mark.usefixtures("time")
def test_what_cleans_up_is_not_stopped_again() -> None:
    with pytest.raises(Stopped), obeying(Run(at=5).ask):
        try:
            wait_for("it", never, deadline_s=100)
        finally:
            with pytest.raises(NeverCame):
                wait_for("the cleaning", never, deadline_s=60)


def test_a_held_brake_says_so_once_and_stops_after_the_body(time: FakeClock) -> None:
    said: list[str] = []
    with pytest.raises(Stopped), obeying(Run(at=5).ask):
        with brake.held(lambda: said.append("cancelled")):
            with pytest.raises(NeverCame):
                wait_for("the disks", never, deadline_s=100)
            assert said == ["cancelled"]
        ended = time.passed_s
        brake.check()
    assert time.passed_s == ended


@pytest.mark.usefixtures("time")
def test_a_held_body_of_a_cancelled_run_does_not_begin() -> None:
    run = Run(at=1)
    with pytest.raises(Stopped), obeying(run.ask):
        clock.sleep(2)
        with brake.held(lambda: None):
            raise AssertionError("the body began")


@pytest.mark.usefixtures("time")
def test_a_sigterm_waits_for_the_end_of_a_held_body() -> None:
    """Prefect's runner sends it when a run is cancelled: the disks must not stay half formatted."""
    seen: list[str] = []

    def terminated(_signal: int, _frame: FrameType | None) -> None:
        seen.append("terminated")

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        with obeying(Run(at=1000).ask), brake.held(lambda: None):
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append("formatted")
        assert seen == ["formatted", "terminated"]
        assert signal.getsignal(signal.SIGTERM) is terminated
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_a_run_nothing_stops(time: FakeClock) -> None:
    with brake.held(lambda: None):
        brake.check(fresh=True)
    with pytest.raises(NeverCame):
        wait_for("it", never, deadline_s=20)
    assert time.passed_s > 10


def test_a_local_command_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brake, "ASK_S", 0.0)
    monkeypatch.setattr(process, "CHECK_S", 0.05)
    begun = tmp_path / "begun"
    program = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(600)"
    with pytest.raises(Stopped), obeying(begun.exists):
        process.run_local([sys.executable, "-c", program], timeout_s=600)


def test_a_slow_server_does_not_lengthen_a_deadline(time: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brake, "ASK_S", 0.0)
    monkeypatch.setattr(process, "CHECK_S", 0.05)
    questions = Run()

    def ask() -> bool | None:
        time.sleep(5)
        return questions.ask()

    with obeying(ask), pytest.raises(DeadlinePassed):
        process.run_local(["sleep", "600"], timeout_s=20)
    assert len(questions.asked_at) <= 5


def test_a_local_command_that_ends_in_time_is_not_disturbed() -> None:
    with obeying(lambda: False):
        assert process.run_local(["echo", "done"], timeout_s=60).stdout == "done\n"
