"""The folders of runs: which are removed when a run starts, and what a run says then."""

import logging
import os
from pathlib import Path
from uuid import UUID

import pytest
from prefect.runtime import flow_run

from holdfast.base import clock
from tasks.run import flow
from tasks.run.folders import DEAD_AFTER_S, prune
from tests.unit.cases import LOCK
from tests.unit.server import Server
from tests.unit.target import RUN

MINE = str(UUID(int=99))


def run(runs: Path, number: int, *, ended: bool, age_s: float) -> str:
    """Make the folder of a run that last wrote so long ago. Return its name."""
    folder = runs / str(UUID(int=number))
    (folder / "roots").mkdir(parents=True)
    (folder / "roots" / "derivation").symlink_to("/nix/store/none")
    (folder / "journal.jsonl").touch()
    if ended:
        (folder / "report.json").touch()
    at = clock.now() - age_s
    for path in (*folder.iterdir(), folder):
        os.utime(path, (at, at), follow_symlinks=False)
    return folder.name


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(1, {5}), (2, {1, 5}), (3, {1, 2, 5}), (4, {1, 2, 3, 5}), (9, {1, 2, 3, 4, 5, 6})],
)
def test_oldest_runs_are_removed_unless_they_have_not_ended(tmp_path: Path, keep: int, kept: set[int]) -> None:
    names = {
        1: run(tmp_path, 1, ended=True, age_s=10),
        2: run(tmp_path, 2, ended=True, age_s=20),
        3: run(tmp_path, 3, ended=True, age_s=30),
        4: run(tmp_path, 4, ended=True, age_s=40),
        5: run(tmp_path, 5, ended=False, age_s=50),
        6: run(tmp_path, 6, ended=False, age_s=DEAD_AFTER_S + 60),
    }
    run(tmp_path, 99, ended=False, age_s=0)
    prune(tmp_path, keep=keep, mine=MINE)
    assert {path.name for path in tmp_path.iterdir()} == {MINE, *(names[number] for number in kept)}


def test_nothing_else_is_removed(tmp_path: Path) -> None:
    runs, others = tmp_path / "runs", tmp_path / "others"
    elsewhere = others / run(others, 7, ended=True, age_s=10)
    runs.mkdir()
    (runs / elsewhere.name).symlink_to(elsewhere)
    (runs / "notes").mkdir()
    (runs / str(UUID(int=8))).touch()
    prune(runs, keep=1, mine=MINE)
    assert len(list(runs.iterdir())) == 3
    assert (elsewhere / "report.json").exists()


def test_run_whose_last_line_is_fresh_counts_as_new(tmp_path: Path) -> None:
    old, new = run(tmp_path, 1, ended=True, age_s=500), run(tmp_path, 2, ended=True, age_s=400)
    (tmp_path / old / "output.log").write_text("a line\n")
    prune(tmp_path, keep=2, mine=MINE)
    assert [path.name for path in tmp_path.iterdir()] == [old] != [new]


@pytest.mark.parametrize(("start", "said"), [(1, []), (2, ["the flake /flake has changed since this run locked it"])])
def test_start_of_a_run(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    start: int,
    said: list[str],
) -> None:
    assert server
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HOLDFAST_RUNS_KEEP", "1")
    monkeypatch.setattr(flow_run, "get_run_count", lambda: start)
    monkeypatch.setattr(flow, "get_run_logger", lambda: logging.getLogger("tests"))
    monkeypatch.setattr(flow, "changed_since", lambda _folder: [LOCK])
    runs = tmp_path / "runs"
    run(runs, 1, ended=True, age_s=10)
    (runs / RUN).mkdir()
    (runs / RUN / "report.json").touch()
    flow._begin()
    assert [path.name for path in runs.iterdir()] == [RUN]
    assert not (runs / RUN / "report.json").exists()
    assert [record.getMessage()[: len(said[0])] for record in caplog.records if said] == said
