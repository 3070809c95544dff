"""Runs that begin long after they were due: they end at once, and change nothing."""

from datetime import timedelta

import pytest
from prefect.client.schemas.objects import State
from prefect.states import AwaitingRetry, Failed, Paused, Pending, Running, Scheduled

from holdfast.base import clock
from tasks.run.lateness import due_at, too_late
from tests.unit.server import Server
from tests.unit.target import FakeMachine
from tests.unit.test_cancelled_runs import report, run_flow
from tests.unit.test_whole_runs import inventory as inventory

H = 3600.0


def ago(state: State[object], seconds: float) -> State[object]:
    """Return a state of the past; a scheduled one was due when it was made, unless it says otherwise."""
    at = clock.utc() - timedelta(seconds=seconds)
    details = state.state_details
    if state.is_scheduled() and details.scheduled_time is not None and details.scheduled_time > at:
        details = details.model_copy(update={"scheduled_time": at})
    return state.model_copy(update={"timestamp": at, "state_details": details})


def planned(name: str, made: float, due: float) -> State[object]:
    state: State[object] = Scheduled(name=name, scheduled_time=clock.utc() - timedelta(seconds=due))
    return state.model_copy(update={"timestamp": clock.utc() - timedelta(seconds=made)})


def first_start() -> list[State[object]]:
    return [ago(Scheduled(), 10), ago(Pending(), 3), ago(Running(), 0)]


CASES = {
    "started at once": (first_start, ""),
    "by hand, without a time": (lambda: [ago(Pending(), 2), ago(Running(), 0)], ""),
    "while nobody served": (lambda: [ago(Scheduled(), H), planned("Late", H - 15, H), ago(Running(), 0)], "1 h"),
    "just in time": (lambda: [ago(Scheduled(), 899), ago(Running(), 0)], ""),
    "just too late": (lambda: [ago(Scheduled(), 960), ago(Running(), 0)], "16 min"),
    "a window, planned long before": (lambda: [planned("Scheduled", 70 * H, 20), ago(Running(), 0)], ""),
    "a window that passed": (lambda: [planned("Scheduled", 70 * H, 27 * H), ago(Running(), 0)], "1 d 3 h"),
    "a Retry, days later": (lambda: [ago(Scheduled(), 50 * H), ago(Failed(), 49 * H), ago(AwaitingRetry(), 5)], ""),
    "a Retry that nobody served": (
        lambda: [ago(Scheduled(), 50 * H), ago(Failed(), 49 * H), ago(AwaitingRetry(), 2 * H), ago(Running(), 0)],
        "2 h",
    ),
    "behind a concurrency limit": (
        lambda: [ago(Scheduled(), 3 * H), planned("AwaitingConcurrencySlot", 30, 0), ago(Running(), 0)],
        "3 h",
    ),
    "in any order": (lambda: [ago(Running(), 0), ago(AwaitingRetry(), 5), ago(Scheduled(), 50 * H)], ""),
}


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("case", CASES)
def test_when_a_run_is_late(server: Server, case: str) -> None:
    states, late = CASES[case]
    server.states = states()
    said = too_late()
    assert bool(said) == bool(late)
    assert not late or said.startswith(f"this run begins {late} after it was due, which is more than 15 min (HOLDFAST_")
    assert not late or "the clocks of this machine and of the Prefect server differ" in said


@pytest.mark.usefixtures("machine")
def test_a_pause_is_no_start() -> None:
    states = [ago(Scheduled(), 20 * H), ago(Running(), 20 * H), ago(Paused(), 19 * H), ago(Running(), 1)]
    assert due_at(states) == states[0].state_details.scheduled_time


@pytest.mark.usefixtures("machine")
def test_the_setting_decides(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.states = [ago(Scheduled(), 2 * H)]
    monkeypatch.setenv("HOLDFAST_LATE_S", "7300")
    assert too_late() == ""


@pytest.mark.usefixtures("desk", "inventory")
@pytest.mark.parametrize("flow", ["install", "rehearse"])
def test_a_late_run_ends_as_cancelled_and_asks_the_machine_nothing(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch, flow: str
) -> None:
    server.states = [ago(Scheduled(), 2 * H), ago(Running(), 0)]
    ended = run_flow(flow, monkeypatch)
    assert ended is not None
    assert (ended.type, ended.name) == ("CANCELLED", "Cancelled")
    assert "it ends here and has changed nothing. Hint: if it is wanted now, Retry it" in str(ended.message)
    assert (machine.asked, machine.story) == ([], [])
    written = report()
    assert (written.outcome, written.error, written.phases) == ("cancelled", ended.message, ())
