"""What a run keeps of its flakes: it asks nix once, and finds the answer again, whatever became of the flake."""

import json
import stat
from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed, ConfigError
from holdfast.nixcli.kept import changed_since, evaluation_of, lock_of
from tests.unit.cases import host
from tests.unit.test_evaluation import ANSWER, HASH, REV, SOURCE, metadata
from tests.unit.test_nixcli import Nix

CLEAN = metadata(f"git+file:///f?rev={REV}", type="git", rev=REV)
OF_A_PATH = metadata(type="path", path="/f")
OTHER = OF_A_PATH.replace(HASH[:12], "sha256-other")
FAILS = ("", "error: no such flake", 1)


@pytest.fixture
def nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nix:
    return Nix(tmp_path, monkeypatch)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return folder


def verbs(nix: Nix) -> list[str]:
    return [next(word for word in asked if word in ("metadata", "eval", "build")) for asked in nix.asked]


@pytest.mark.parametrize(("said", "rooted"), [(CLEAN, []), (OF_A_PATH, ["build"])])
def test_a_run_locks_and_evaluates_once(nix: Nix, run: Path, said: str, rooted: list[str]) -> None:
    nix.answers(metadata=said, eval=json.dumps(ANSWER), build="")
    first = evaluation_of(run, host(flake="/f"))
    assert verbs(nix) == ["metadata", *rooted, "eval", "build"]
    assert nix.asked[-1][-3:] == [f"/nix/store/drv-{name}.drv" for name in ("nixos-system", "disko", "disko-mount")]
    nix.answers(metadata=OTHER, eval="{}", build=FAILS)
    assert evaluation_of(run, host(flake="/f")) == first
    assert lock_of(run, "/f") == first.system.lock
    assert len(nix.asked) == 3 + len(rooted)


def test_what_is_kept_is_for_its_owner_only(nix: Nix, run: Path) -> None:
    nix.answers(metadata=OF_A_PATH, eval=json.dumps(ANSWER), build="")
    evaluation_of(run, host(flake="/f"))
    kept = {path.name: stat.S_IMODE(path.stat().st_mode) for path in run.iterdir()}
    assert kept == {"locks.json": 0o600, "evaluation.json": 0o600, "roots": 0o700}


def test_source_is_protected_before_its_lock_counts(nix: Nix, run: Path) -> None:
    nix.answers(metadata=OF_A_PATH, build=FAILS)
    with pytest.raises(CommandFailed):
        lock_of(run, "/f")
    nix.answers(metadata=OTHER, build="")
    assert lock_of(run, "/f").nar_hash.startswith("sha256-other")
    assert nix.asked[-1][-1] == SOURCE


def test_lock_stays_if_the_evaluation_fails(nix: Nix, run: Path) -> None:
    nix.answers(metadata=CLEAN, eval=("", "error: syntax error", 1))
    with pytest.raises(CommandFailed, match="syntax error"):
        evaluation_of(run, host(flake="/f"))
    nix.answers(metadata=OTHER, eval=json.dumps(ANSWER), build="")
    assert evaluation_of(run, host(flake="/f")).system.lock.revision == REV


def test_answer_that_is_refused_is_not_kept(nix: Nix, run: Path) -> None:
    nix.answers(metadata=CLEAN, eval="{}")
    with pytest.raises(ConfigError):
        evaluation_of(run, host(flake="/f"))
    nix.answers(eval=json.dumps(ANSWER), build="")
    assert evaluation_of(run, host(flake="/f")).disks


@pytest.mark.parametrize(
    ("again", "asked"),
    [
        ({"flake": "/f"}, []),
        ({"flake": "/g"}, ["metadata"]),  # of the same content
        ({"flake": "/f", "attribute": "barn"}, ["eval", "build"]),
    ],
)
def test_another_flake_or_attribute_of_the_inventory_is_asked_anew(
    nix: Nix, run: Path, again: dict[str, str], asked: list[str]
) -> None:
    nix.answers(metadata=CLEAN, eval=json.dumps(ANSWER), build="")
    evaluation_of(run, host(flake="/f"))
    before = len(nix.asked)
    evaluation_of(run, host(**again))
    assert verbs(nix)[before:] == asked


@pytest.mark.parametrize("name", ["locks.json", "evaluation.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"locks": {"/f": {}}}'])
def test_file_that_cannot_be_read_counts_as_none(nix: Nix, run: Path, name: str, content: str) -> None:
    nix.answers(metadata=CLEAN, eval=json.dumps(ANSWER), build="")
    first = evaluation_of(run, host(flake="/f"))
    (run / name).write_text(content)
    assert evaluation_of(run, host(flake="/f")) == first


@pytest.mark.parametrize(
    ("answer", "changed"), [(OF_A_PATH, []), (OTHER, ["/f"]), (FAILS, []), ("oops", []), ("{}", [])]
)
def test_change_of_a_flake(nix: Nix, run: Path, answer: str, changed: list[str]) -> None:
    assert changed_since(run) == []
    nix.answers(metadata=OF_A_PATH, build="")
    lock_of(run, "/f")
    nix.answers(metadata=answer)
    assert [lock.flake for lock in changed_since(run)] == changed
