"""The journal and the report that is made from it."""

import logging
import time
from pathlib import Path

import pytest

from tasks.run import log as run_log
from tasks.run.journal import Attempt, Journal, Stopwatch
from tasks.run.log import BATCH_LINES, RunLog
from tasks.run.report import assemble

NODE = {"node_key": "nodekey:aa", "node_id": "n1", "addresses": ["100.64.0.1"]}


def entry(phase: str, seconds: float, **more: object) -> Attempt:
    return Attempt.model_validate(
        {"phase": phase, "outcome": "done", "started_at": 0.0, "seconds": seconds, "start": 1} | more
    )


def test_journal_gives_back_what_was_added(tmp_path: Path) -> None:
    journal = Journal.of_run(tmp_path / "runs", "run-1")
    journal.add(entry("build", 2))
    journal.add(Stopwatch("kexec", 1).entry("failed", error="no link"))
    again = Journal.of_run(tmp_path / "runs", "run-1")
    assert [(line.phase, line.outcome, line.error) for line in again.entries()] == [
        ("build", "done", ""),
        ("kexec", "failed", "no link"),
    ]
    assert (tmp_path / "runs" / "run-1").stat().st_mode & 0o777 == 0o700


def test_report_of_a_run_that_was_retried() -> None:
    report = assemble(
        "r",
        "install",
        "cottage",
        [
            entry("preflight", 3, result={"origin": {"boot_id": "b1", "identity": NODE}}),
            entry("install", 5, outcome="failed", error="no link"),
            entry("run", 9, outcome="failed", error="no link"),
            entry("install", 7, result={"toplevel": "/nix/store/x"}),
            entry(
                "verify",
                4,
                result={"boot_id": "b3", "booted": "/nix/store/x", "identity": NODE, "path": "relay"},
            ),
            entry("run", 12),
        ],
        peak_rss_bytes=1000,
    )
    assert report.outcome == "done"
    assert [(phase.name, phase.outcome, phase.seconds, phase.attempts) for phase in report.phases] == [
        ("preflight", "done", 3, 1),
        ("install", "done", 12, 2),
        ("verify", "done", 4, 1),
    ]
    assert report.outside_phases_s == 2
    assert report.boot_id == {"origin": "b1", "installer": None, "final": "b3"}
    assert report.identity["origin"] == report.identity["final"]
    assert report.identity["installer"] is None
    assert report.closure.booted == "/nix/store/x"
    assert report.path == "relay"
    assert report.flow == "install"
    said = report.to_markdown()
    assert "- booted: `/nix/store/x`" in said
    assert "| final | `b3` |" in said
    assert "Nothing is left to do" in said


def test_a_start_that_was_killed_counts_with_what_it_did() -> None:
    report = assemble(
        "r",
        "install",
        "cottage",
        [
            entry("preflight", 20, started_at=1000.0, connections=1, commands=3),
            entry("approve", 70, started_at=1025.0),
            entry("kexec", 40, started_at=1100.0, connections=1, commands=9),
            entry("approve", 1, started_at=1300.0, start=2, result={"skipped": "formatting has begun already"}),
            entry("partition", 140, started_at=1310.0, start=2, commands=20),
            entry("run", 155, started_at=1299.0, start=2, connections=2, commands=22),
        ],
        peak_rss_bytes=1000,
    )
    assert (report.outcome, report.seconds, report.outside_phases_s) == ("done", 295, 24)
    assert (report.connections, report.commands) == (4, 34)
    assert {phase.name: (phase.outcome, phase.attempts) for phase in report.phases} == {
        "preflight": ("done", 1),
        "approve": ("done", 2),
        "kexec": ("done", 1),
        "partition": ("done", 1),
    }


@pytest.mark.parametrize(("outcome", "short"), [("done", "done after 9 s"), ("failed", "failed in approve after 9 s")])
def test_list_of_artifacts_says_how_a_run_ended(outcome: str, short: str) -> None:
    entries = [entry("preflight", 3), entry("approve", 5, outcome=outcome), entry("run", 9, outcome=outcome)]
    assert assemble("r", "install", "cottage", entries, peak_rss_bytes=1).in_short() == short


def test_report_of_a_rehearsal() -> None:
    entries = [
        entry("preflight", 3, result={"origin": {"boot_id": "b1", "identity": NODE}}),
        entry("build", 1, result={"toplevel": "/nix/store/x"}),
        entry("reconnect", 5, result={"boot_id": "b2", "identity": NODE, "away_s": 45.5, "path": "relay"}),
    ]
    back = entry("go_back", 7, result={"boot_id": "b3", "identity": NODE, "away_s": 38.5, "path": "direct"})
    report = assemble("r", "rehearse", "cottage", [*entries, back, entry("run", 20)], peak_rss_bytes=1000)
    assert (report.flow, report.outcome, report.path) == ("rehearse", "done", "direct")
    assert report.boot_id == {"origin": "b1", "installer": "b2", "returned": "b3"}
    assert report.identity["returned"] == report.identity["origin"]
    assert (report.away_s.origin, report.away_s.kexec, report.away_s.reboot) == (None, 45.5, 38.5)
    said = report.to_markdown()
    assert said.startswith("# rehearse cottage: done")
    assert "| returned | `b3` |" in said
    assert "45.5 s for kexec, 38.5 s for the reboot; path: direct" in said
    assert "`install/cottage` may follow" in said
    assert "booted" not in said

    proof = entry("prove_origin", 50, result={"boot_id": "b0", "identity": NODE, "away_s": 31.5, "path": "relay"})
    again = assemble("r", "rehearse", "cottage", [*entries, proof, back, entry("run", 70)], peak_rss_bytes=1000)
    assert list(again.boot_id) == ["origin", "proved", "installer", "returned"]
    assert (again.boot_id["proved"], again.away_s.origin) == ("b0", 31.5)
    assert again.identity["proved"] == again.identity["origin"]
    assert "away: 31.5 s for the origin's own reboot, 45.5 s for kexec, 38.5 s for the reboot" in again.to_markdown()
    skipped = entry("prove_origin", 1, result={"skipped": "the installer runs already", "boot_id": ""})
    assert "proved" not in assemble("r", "rehearse", "cottage", [skipped], peak_rss_bytes=1).boot_id

    failed = assemble("r", "rehearse", "cottage", [*entries, entry("run", 20, outcome="failed")], peak_rss_bytes=1)
    assert (failed.path, failed.away_s.reboot, failed.boot_id["returned"]) == ("relay", None, None)
    assert "goes back to its origin by itself" in failed.to_markdown()


def test_report_of_a_run_that_failed_at_once_names_the_error() -> None:
    report = assemble(
        "r", "install", "cottage", [entry("run", 1, outcome="failed", error="no route")], peak_rss_bytes=1
    )
    assert (report.outcome, report.error, report.phases) == ("failed", "no route", ())
    assert "no route" in report.to_markdown()


def test_skipped_phase_is_said_to_be_skipped() -> None:
    report = assemble(
        "r", "install", "cottage", [entry("kexec", 1, result={"skipped": "runs already"})], peak_rss_bytes=1
    )
    assert report.phases[0].outcome == "skipped"


def shown_by(logger: logging.Logger) -> list[str]:
    """Return the list that takes what a logger is given."""
    shown: list[str] = []

    def show(record: logging.LogRecord) -> bool:
        shown.append(record.getMessage())
        return True

    logger.addFilter(show)
    return shown


def test_lines_reach_the_file_singly_and_the_log_in_batches(tmp_path: Path) -> None:
    logger = logging.Logger("run")
    shown = shown_by(logger)
    with RunLog(tmp_path / "log", logger) as log:
        for number in range(BATCH_LINES + 1):
            log.line(str(number))
    assert (tmp_path / "log").read_text().splitlines() == [str(number) for number in range(BATCH_LINES + 1)]
    assert [len(batch.splitlines()) for batch in shown] == [BATCH_LINES, 1]


def test_last_lines_before_a_silence_are_shown_while_it_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "BATCH_S", 0.1)
    logger = logging.Logger("run")
    shown = shown_by(logger)
    with RunLog(tmp_path / "log", logger) as log:
        for batch in ("a", "b"):
            log.line(f"first {batch}")
            log.line(f"second {batch}")
            ends = time.monotonic() + 10
            while f"second {batch}" not in "\n".join(shown) and time.monotonic() < ends:
                time.sleep(0.01)
            assert "\n".join(shown) == f"first {batch}\nsecond {batch}"
            assert (tmp_path / "log").read_text().endswith(f"second {batch}\n")
            shown.clear()
    assert shown == []


def test_report_of_a_run_that_left_a_machine_in_use_alone() -> None:
    said = "cottage is installed already; to change its configuration use nixos-rebuild."
    run = [entry("preflight", 3), entry("run", 4, result={"said": said})]
    report = assemble("r", "install", "cottage", run, peak_rss_bytes=1)
    assert (report.outcome, report.said, report.error) == ("done", said, "")
    assert [phase.name for phase in report.phases] == ["preflight"]
    text = report.to_markdown()
    assert "installed already" in text
    assert text.endswith("**Next:** Nothing was changed, and nothing is left to do.\n")
    assert assemble("r", "install", "cottage", [entry("run", 4)], peak_rss_bytes=1).said == ""
