"""What `just serve` says of the runs that wait when it starts."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Paused, Pending, Scheduled

from deployments.waiting import PAGE, waiting

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
COTTAGE = UUID(int=1)


def run(number: int, state: State[Any], due_s: float, deployment: UUID = COTTAGE) -> FlowRun:
    due = NOW + timedelta(seconds=due_s)
    return FlowRun(
        id=UUID(int=number), flow_id=UUID(int=5), deployment_id=deployment, state=state, expected_start_time=due
    )


def said(*runs: FlowRun) -> list[str]:
    def deployment(name: str) -> SimpleNamespace:
        if name != "install/cottage":
            raise ObjectNotFound(Exception("no such deployment"))
        return SimpleNamespace(id=COTTAGE)

    def page(*, limit: int, offset: int, **_asked: object) -> list[FlowRun]:
        return list(runs[offset : offset + limit])

    client = SimpleNamespace(read_deployment_by_name=deployment, read_flow_runs=page)
    return list(waiting(cast("SyncPrefectClient", client), ["install/cottage", "install/barn"], NOW, late_s=900))


@pytest.mark.parametrize(
    ("state", "due_s", "expected"),
    [
        (lambda: Scheduled(name="Late"), -7200, "Late, was due 2 h ago: ends at once and changes nothing"),
        (Scheduled, -890, "Scheduled, was due 14 min ago: begins now"),
        (AwaitingRetry, -3 * 86400, "AwaitingRetry, was due 3 d ago: ends at once"),
        (AwaitingRetry, -60, "AwaitingRetry, was due 60 s ago: begins now"),
        (Pending, -600, "Pending, for 10 min: another process took it; if that is gone, Cancel it"),
        (Paused, -3600, "Paused, waits for a person for 1 h: Resume it or Cancel it"),
        (Scheduled, 7200, "planned, begins in 2 h"),
    ],
)
def test_what_will_become_of_a_run(state: Callable[[], State[Any]], due_s: float, expected: str) -> None:
    [line] = said(run(7, state(), due_s))
    assert line.startswith(f"install/cottage, run {UUID(int=7)}: {expected}")


def test_a_long_list_is_read_whole_and_planned_runs_are_counted() -> None:
    late = run(7, Scheduled(), -7200)
    lines = said(late, *(run(100 + number, Scheduled(), 3600 * number) for number in range(1, PAGE + 50)))
    assert len(lines) == 3
    assert "ends at once" in lines[0]
    assert f"run {UUID(int=101)}: planned, begins in 1 h" in lines[1]
    assert lines[2] == f"install/cottage: {PAGE + 48} more runs are planned after that"


def test_nothing_waits() -> None:
    assert said() == []
