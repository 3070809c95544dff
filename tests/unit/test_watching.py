"""A run that is followed: each thing that happens is a line, and the end says why."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.following import follow
from holdfast.base import clock
from tests.unit.prefect_api import RUN, PrefectApi, detail, prefect_api, state

UI = f"http://127.0.0.1:4200/runs/flow-run/{RUN}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PrefectApi]:
    with prefect_api(monkeypatch, tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("last", "status", "said"),
    [
        (state("COMPLETED"), 0, "the run ended as Completed"),
        (state("COMPLETED", "Installed already", "in use."), 0, "the run ended as Installed already: in use."),
        (state("FAILED", message="no disk. Hint: \x1b[2Jplug it in."), 1, r"Failed: no disk. Hint: \x1b[2Jplug it in."),
        (state("CRASHED"), 1, "the run ended as Crashed"),
        (state("CANCELLED", message="cancelled in kexec"), 1, "the run ended as Cancelled: cancelled in kexec"),
    ],
)
def test_the_end_says_why_and_is_the_exit_status(
    server: PrefectApi, capsys: pytest.CaptureFixture[str], last: dict[str, Any], status: int, said: str
) -> None:
    server.states = [state("PENDING"), state("RUNNING"), last]
    assert follow("install", "install/cottage", {}) == status
    out, err = capsys.readouterr()
    assert said in err
    assert (f"Retry are at {UI}" in err) == (status == 1)
    assert f"install: the run is {RUN}, {UI}" in out


def at(seconds: float) -> str:
    return (datetime(2026, 5, 1, 12, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat()


def record(number: int, seconds: float, message: str, task: str | None = None, level: int = 20) -> dict[str, Any]:
    return {"id": str(number), "timestamp": at(seconds), "message": message, "task_run_id": task, "level": level}


def task(kind: str, name: str = "preflight-0ab") -> dict[str, Any]:
    told = {"type": kind, "name": kind.capitalize(), "timestamp": at(7)}
    return {"id": "t1", "name": name, "start_time": at(4), "run_count": 1, "state": told}


def test_each_thing_that_happens_is_a_line_once_and_in_order(
    server: PrefectApi, capsys: pytest.CaptureFixture[str]
) -> None:
    server.states = [state("PENDING"), state("RUNNING"), state("PAUSED"), state("RUNNING"), state("COMPLETED")]
    server.tasks = [task("RUNNING")]
    server.logs = [record(1, 6, "two\nlines \x1b[0m", "t1"), record(2, 5, "before", None, 30)]
    server.logs += [record(10 + number, 20 + number / 1000, f"line {number}", None) for number in range(450)]
    asked = iter(range(10_000))

    def later(_request: httpx.Request) -> None:
        if next(asked) == 12:
            server.tasks = [task("COMPLETED")]
            server.logs += [record(3, 21, "late", "t1", 40), record(4, 22, "Finished in state Completed()", None)]

    server.answer = later
    assert follow("install", "install/cottage", {}) == 0
    shown = [line[9:] for line in capsys.readouterr().out.splitlines()[1:]]
    order = [
        "preflight: begins",
        "WARNING: before",
        "preflight: two",
        r"preflight: lines \x1b[0m",
        "line 0",
        "line 449",
        "preflight: ERROR: late",
    ]
    assert [line for line in shown if line in order] == order
    assert shown.count("preflight: Completed after 3 s") == 1
    assert [line for line in shown if line.startswith("line ")] == [f"line {number}" for number in range(450)]
    assert f"waits for a person: {UI}, there ⋮ and Resume" in shown
    assert not [line for line in shown if "Finished in state" in line]


def test_a_server_that_is_away_for_a_while_is_waited_for(
    server: PrefectApi, capsys: pytest.CaptureFixture[str]
) -> None:
    comes_back = clock.monotonic() + 300
    server.states = [state("RUNNING"), state("RUNNING"), state("COMPLETED")]

    def away(_request: httpx.Request) -> None:
        if server.created and clock.monotonic() < comes_back:
            raise httpx.ConnectError("refused")

    server.polled_s_ago = lambda: None if not clock.monotonic() else 100 - clock.monotonic() % 1
    server.answer = away
    assert follow("install", "install/cottage", {}) == 0
    assert capsys.readouterr().out.count("does not answer: refused. The run goes on without it") == 1


def test_a_server_that_stays_away_ends_the_watch_and_not_the_run(
    server: PrefectApi, capsys: pytest.CaptureFixture[str]
) -> None:
    server.states = [state("RUNNING")]

    def away(_request: httpx.Request) -> None:
        if server.created:
            raise httpx.ConnectError("refused")

    server.polled_s_ago = lambda: 100 - clock.monotonic() % 1
    server.answer = away
    assert follow("install", "install/cottage", {}) == 1
    assert f"Run {RUN} may go on: {UI}" in capsys.readouterr().err


def test_a_run_that_was_deleted_ends_the_watch(server: PrefectApi, capsys: pytest.CaptureFixture[str]) -> None:
    def deleted(request: httpx.Request) -> httpx.Response | None:
        gone = request.method == "GET" and "/flow_runs/" in request.url.path
        return detail(404, "Flow run not found") if gone else None

    server.polled_s_ago = lambda: 100 - clock.monotonic() % 1
    server.answer = deleted
    assert follow("install", "install/cottage", {}) == 1
    assert "says: Flow run not found" in capsys.readouterr().err
