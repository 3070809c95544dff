"""What Holdfast relies on of a real Prefect: who serves, late runs, and Cancel while the runner is deaf.

The tests run in the order of this file. How long a cancelled run took until it stopped is printed (`pytest -s`).
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prefect import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.following import follow, require_served
from deployments.waiting import waiting
from holdfast.base.errors import ConfigError, Unreachable
from tasks.run.report import Report
from tests.server.conftest import DEPLOYMENT, Prefect
from tests.server.guarded import guarded

PHASES = ("wait", "command", "pause")
# The runner gives its observer of cancellations up some 13 s after the server is gone.
AWAY_S = 31.0


@pytest.fixture(autouse=True)
def asking(prefect: Prefect, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process ask the server of the test, through Prefect and without it."""
    monkeypatch.setenv("PREFECT_API_URL", prefect.url)
    with temporary_settings({PREFECT_API_URL: prefect.url}):
        yield


def report(prefect: Prefect, run: str) -> Report:
    return Report.model_validate_json((prefect.runs_dir / run / "report.json").read_text())


def cancel(prefect: Prefect, run: str, phase: str, runner: str) -> str:
    """Cancel a run, wait for its end, check its report, and return the message of its state."""
    pressed = time.monotonic()
    prefect.cancel(run)
    state = prefect.ended(run)
    print(f"cancelled in {phase}, {runner}: stopped after {time.monotonic() - pressed:.1f} s")
    assert (state["type"], state["name"]) == ("CANCELLED", "Cancelled")
    written = report(prefect, run)
    assert (written.outcome, [each.outcome for each in written.phases]) == ("cancelled", ["cancelled"])
    assert f"cancelled in the phase {phase}. Retry this run" in written.error
    return str(state["message"])


def test_no_server() -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        require_served(DEPLOYMENT)


def test_unknown_deployment(prefect: Prefect) -> None:
    prefect.start_server()
    with pytest.raises(ConfigError, match=f"has no deployment {DEPLOYMENT}"):
        require_served(DEPLOYMENT)


def test_cancel_while_the_runner_hears(prefect: Prefect) -> None:
    prefect.start_serving()
    assert require_served(DEPLOYMENT)["name"] == "cottage"
    runs = {phase: prefect.start(phase) for phase in PHASES}
    for phase, run in runs.items():
        prefect.in_phase(run, phase)
    for phase, run in runs.items():
        cancel(prefect, run, phase, "the runner hears")


def test_a_run_is_started_and_shown_until_its_end(prefect: Prefect, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert follow("waits", DEPLOYMENT, {"way": "short"}) == 0
    print(f"started and followed in {time.monotonic() - began:.1f} s")
    out, err = capsys.readouterr()
    assert f"{prefect.url.removesuffix('/api')}/runs/flow-run/" in out
    shown = [line[9:] for line in out.splitlines()]
    assert shown.count("short: begins") == 1
    assert shown.count("short: hello from the phase") == 1
    assert [line.rpartition(" after ")[0] for line in shown if "Completed" in line] == ["short: Completed"]
    assert "waits: the run ended as Completed" in err


def test_a_run_that_fails_says_why_and_where(prefect: Prefect, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow("waits", DEPLOYMENT, {"way": "fails"}) == 1
    out, err = capsys.readouterr()
    assert "fails: Failed after " in out
    assert "waits: the run ended as Failed: a word is wrong. Hint: Correct it." in err
    assert f"Retry are at {prefect.url.removesuffix('/api')}/runs/flow-run/" in err


def test_a_parameter_that_is_refused_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow("waits", DEPLOYMENT, {"way": "wrong"}) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "refuses: HTTP status " in line
    assert "Hint: " in line


def test_a_password_that_is_wrong_starts_nothing(
    prefect: Prefect, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server of this test wants none, so one stands in front of it that does."""
    with guarded(prefect.url, "admin:right") as url:
        monkeypatch.setenv("PREFECT_API_URL", url)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:wrong")
        assert follow("waits", DEPLOYMENT, {"way": "short"}) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "refuses: HTTP status 401. Hint: " in line
        assert "wrong" not in line
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:right")
        assert follow("waits", DEPLOYMENT, {"way": "short"}) == 0


def test_what_waits_while_nobody_serves(prefect: Prefect) -> None:
    prefect.stop("serve")
    with pytest.raises(Unreachable, match=f"nobody serves {DEPLOYMENT}"):
        require_served(DEPLOYMENT)
    now = datetime.now(UTC)

    def due(ago: timedelta) -> dict[str, object]:
        return {"state_details": {"scheduled_time": (now - ago).isoformat()}}

    late = prefect.start("wait", **due(timedelta(hours=2)))
    soon = prefect.start("wait", **due(timedelta(minutes=3)))
    planned = prefect.start("wait", **due(-timedelta(hours=5)))
    with get_client(sync_client=True) as client:
        lines = list(waiting(client, [DEPLOYMENT, "install/barn"], now, late_s=900))
    assert [line.split(",")[0] for line in lines] == [DEPLOYMENT] * 3
    assert f"run {late}: " in lines[0]
    assert "was due 2 h ago: ends at once and changes nothing" in lines[0]
    assert f"run {soon}: " in lines[1]
    assert "was due 3 min ago: begins now" in lines[1]
    assert f"run {planned}: planned, begins in 5 h" in lines[2]

    prefect.start_serving()
    state = prefect.ended(late)
    assert state["type"] == "CANCELLED"
    assert "begins 2 h after it was due" in state["message"]
    assert (report(prefect, late).outcome, report(prefect, late).phases) == ("cancelled", ())
    prefect.in_phase(soon, "wait")
    assert prefect.state_of(planned)["type"] == "SCHEDULED"
    prefect.cancel(soon)
    # A person who presses Retry wants it now.
    prefect.retry(late)
    prefect.until(lambda: (prefect.runs_dir / late / "output.log").is_file())
    assert cancel(prefect, late, "wait", "the runner hears")


def test_cancel_when_the_runner_is_deaf(prefect: Prefect) -> None:
    runs = {phase: prefect.start(phase) for phase in PHASES}
    for phase, run in runs.items():
        prefect.in_phase(run, phase)
    prefect.stop("server")
    time.sleep(AWAY_S)
    prefect.start_server()
    for phase, run in runs.items():
        # Only the run itself says where it stopped; the runner would say "cancelled successfully".
        assert cancel(prefect, run, phase, "the runner is deaf").startswith(f"cancelled in the phase {phase}.")
