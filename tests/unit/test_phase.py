"""Under which key Prefect keeps a phase's result: what a Retry runs again, and what it does not."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.base.errors import BackInInstaller, UnexpectedState
from tasks.install import install
from tasks.kexec import kexec
from tasks.partition import partition
from tasks.reboot import reboot
from tasks.reconnect import reconnect
from tasks.run import flow, phase, this_run
from tasks.run.journal import Journal, Stopwatch
from tasks.trial import trial


class Run:
    """A run that is started once, and again with each Retry, on one worker."""

    def __init__(self, folder: Path) -> None:
        self.start = 1
        self.journal = Journal.of_run(folder, "run-1")

    def done(self, name: str) -> None:
        self.journal.add(Stopwatch(name, self.start).entry("done"))

    def back(self, name: str) -> None:
        self.journal.add(Stopwatch(name, self.start).entry("failed", back=True))

    def failed(self, name: str) -> None:
        self.journal.add(Stopwatch(name, self.start).entry("failed"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    made = Run(tmp_path)
    known = SimpleNamespace(get_id=lambda: "run-1", get_run_count=lambda: made.start)
    for module in (phase, this_run):
        monkeypatch.setattr(module, "flow_run", known)
    monkeypatch.setattr(phase, "journal", lambda: made.journal)
    return made


def key(of: Any) -> str:
    return str(of.cache_key_fn(None, {}))


def test_retry_starts_the_installer_again_until_the_disks_are_formatted(run: Run) -> None:
    keys = []
    for _ in range(2):
        keys.append((key(kexec), key(reconnect)))
        run.done("kexec")
        run.failed("partition")
        run.start += 1
    assert len({one for pair in keys for one in pair}) == 4


def test_retry_keeps_the_installer_that_formatted_the_disks(run: Run) -> None:
    run.failed("partition")
    run.start = 2
    second = key(kexec), key(reconnect)
    run.done("partition")
    run.start = 3
    assert (key(kexec), key(reconnect)) == second
    # Another worker has no results, and may mount what is formatted: that settles nothing anew here.
    run.done("partition")
    run.start = 4
    assert (key(kexec), key(reconnect)) == second


def test_retry_keeps_the_other_phases(run: Run) -> None:
    before = key(partition), key(install)
    run.failed("install")
    run.start = 2
    assert (key(partition), key(install)) == before


def test_retry_tries_again_what_did_not_boot(run: Run) -> None:
    before = {key(of) for of in (trial, reboot)}
    run.failed("verify")
    run.start = 2
    assert {key(of) for of in (trial, reboot)} == before
    run.back("verify")
    run.start = 3
    second = {key(of) for of in (trial, reboot)}
    assert not second & before
    run.done("verify")
    run.start = 4
    assert {key(of) for of in (trial, reboot)} == second
    assert key(install) == "run-1-install"


def test_a_machine_that_is_back_is_told_in_the_journal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase, "get_run_logger", lambda: logging.getLogger("tests"))
    monkeypatch.setattr(phase, "is_cancelled", lambda: False)
    for error, back in ((BackInInstaller("x"), True), (UnexpectedState("x"), False)):
        with pytest.raises(UnexpectedState), phase.journaled("verify", None):
            raise error
        assert [*run.journal.entries()][-1].back is back


@pytest.mark.parametrize(("host", "expected"), [("cottage", "report-cottage"), ("\x1b[2J Foo\n", "report-unknown")])
def test_report_of_a_host_that_is_none_is_shown_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch, host: str, expected: str
) -> None:
    keys: list[str] = []
    known = SimpleNamespace(
        get_id=lambda: "run-1", get_parameters=lambda: {"host": host}, get_flow_name=lambda: "install"
    )
    for module in (flow, this_run):
        monkeypatch.setattr(module, "flow_run", known)
    monkeypatch.setattr(flow, "journal", lambda: run.journal)
    monkeypatch.setattr(flow, "create_markdown_artifact", lambda _text, *, key, **_more: keys.append(key))
    flow._write_report()
    assert keys == [expected]
    assert run.journal.report.is_file()
