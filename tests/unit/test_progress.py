"""Reports that fail, or hang: the work goes on, and its output is read on."""

import logging
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from holdfast.base import process
from holdfast.base.log import never_failing
from holdfast.target.machine import Machine
from tasks.run import progress as shown
from tasks.run.log import RunLog
from tests.log import Remembered
from tests.unit.cases import host
from tests.unit.target import FakeMachine

# More than a pipe holds (64 KiB, pipe(7)): a command whose output nobody reads never ends.
WRITES = "import sys; [print('x' * 99, file=sys.stderr) for _ in range(5000)]"


def away(*_given: Any, **_told: Any) -> Any:
    raise httpx.ConnectError("connection refused")


@pytest.mark.parametrize("fails_at", [1, 2, 700, 5000])
def test_output_is_read_on_when_a_line_cannot_be_reported(fails_at: int, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def report(line: str) -> None:
        seen.append(line)
        if len(seen) >= fails_at:
            raise httpx.ConnectError("connection refused")

    done = process.run_local([sys.executable, "-c", WRITES], timeout_s=600, on_line=report)
    assert (done.exit_status, len(seen)) == (0, 5000)
    assert [record.message for record in caplog.records] == [
        "a command's line could not be reported, and the work goes on: ConnectError: connection refused"
    ]


def test_a_report_that_works_again_is_used_again(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def report(number: int) -> None:
        if number % 2:
            raise OSError("no")
        seen.append(number)

    safe = never_failing(report, "a number")
    for number in range(6):
        safe(number)
    assert seen == [0, 2, 4]
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("desk")
def test_copy_goes_on_when_its_progress_cannot_be_shown(machine: FakeMachine) -> None:
    log = Remembered()
    Machine(host(), log).copy(["/nix/store/x-system"], root="/mnt", on_bytes=away)
    assert machine.story == ["copied to /mnt: system"]
    assert log.lines == ["copying path 2", "copying path 3"]


def test_upload_goes_on_when_its_progress_cannot_be_shown(machine: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    Machine(host(), Remembered()).upload(tmp_path / "file", "/var/file", timeout_s=60, on_progress=away)
    assert machine.files["/var/file"] == b"content"


@pytest.mark.parametrize("name", ["create_progress_artifact", "update_progress_artifact"])
def test_prefect_away_is_said_once(
    machine: FakeMachine, log: Remembered, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(shown, "create_progress_artifact", lambda **_told: UUID(int=1))
    monkeypatch.setattr(shown, "update_progress_artifact", away)
    monkeypatch.setattr(shown, name, away)
    with shown.progress("x", "y") as report:
        for done in range(4):
            machine.clock.sleep(10)
            report(done, 4)
    # The last may fail when nobody listens any more.
    assert len(log.warned) <= 1
    assert all("the progress cannot be shown, and the work goes on: ConnectError" in said for said in log.warned)


def test_work_does_not_wait_for_prefect(machine: FakeMachine, log: Remembered, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, sent = threading.Event(), list[float]()

    def hang(_artifact: UUID, *, progress: float) -> None:
        sent.append(progress)
        assert answers.wait(600)

    monkeypatch.setattr(shown, "create_progress_artifact", lambda **_told: UUID(int=1))
    monkeypatch.setattr(shown, "update_progress_artifact", hang)
    with shown.progress("x", "y") as report:
        for done in range(100):
            machine.clock.sleep(10)
            report(done, 100)
        answers.set()
    assert (sent[-1], log.warned) == (100.0, [])


def test_full_disk_of_the_operator_ends_no_work(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tests")
    with RunLog(Path("/dev/full"), logger) as run_log:
        for _ in range(3):
            run_log.line("x")
            run_log.say("still at work")
    full = [record.message for record in caplog.records if "No space left" in record.message]
    assert len(full) == 1
