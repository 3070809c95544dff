"""The lock's script, on a folder that stands for the target's root."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from holdfast.base.settings import script
from tests.unit.conftest import Userland

SCRIPT = script("any/lock.sh")
TOOLS = ("cat", "date", "head", "mkdir", "mv", "rmdir", "sed", "sleep", "wc")  # no flock
NOBODY = {"run_id": "", "since": 0, "renewed": 0, "age_s": 0}


@dataclass
class Target:
    root: Path
    userland: Userland

    @property
    def file(self) -> Path:
        return self.root / "run/holdfast/lock.json"

    def up(self, seconds: int) -> None:
        (self.root / "proc/uptime").write_text(f"{seconds}.37 12.00\n")

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        env = {"PATH": self.userland.path, "HOLDFAST_ROOT": str(self.root)}
        # From a file, since a pipe would have to be fed.
        with tempfile.TemporaryFile() as text:
            text.write(SCRIPT.encode())
            text.seek(0)
            return subprocess.Popen(
                [*self.userland.shell, "-s", "--", *words], stdin=text, stdout=subprocess.PIPE, env=env
            )

    def ask(self, *words: str) -> dict[str, Any]:
        process = self.start(*words)
        output = process.communicate(timeout=20)[0]
        assert process.returncode == 0
        answer = json.loads(output)
        assert isinstance(answer, dict)
        return answer


@pytest.fixture
def target(userland: Userland, tmp_path: Path) -> Target:
    made = Target(tmp_path / "root", userland)
    (made.root / "proc").mkdir(parents=True)
    made.up(100)
    return made


def test_own_lock_is_renewed(target: Target) -> None:
    assert target.ask("show") == {"lock": "none", **NOBODY, "up_s": 100}
    assert not target.file.exists()
    first = target.ask("take", "run-1")
    assert (first["lock"], first["run_id"], first["age_s"]) == ("held", "run-1", 0)
    assert first["since"] == first["renewed"] > 1_600_000_000
    assert target.file.stat().st_mode & 0o777 == 0o644
    written = json.loads(target.file.read_text())
    target.file.write_text(target.file.read_text().replace(str(first["since"]), "1600000000"))
    target.up(5100)
    assert target.ask("show") == {**first, "since": 1600000000, "renewed": 1600000000, "age_s": 5000, "up_s": 5100}
    again = target.ask("take", "run-1")
    assert (again["since"], again["age_s"]) == (1600000000, 0)
    assert again["renewed"] >= first["renewed"]
    assert written == {"run_id": "run-1", "since": first["since"], "renewed": first["since"], "renewed_up_s": 100}


def test_the_clock_may_be_set_meanwhile(target: Target) -> None:
    target.ask("take", "run-1")
    target.file.write_text('{"run_id": "run-1", "since": 5, "renewed": 5, "renewed_up_s": 90}\n')
    assert target.ask("show")["age_s"] == 10


def test_another_is_refused_and_may_take_over_only_what_it_saw(target: Target) -> None:
    target.ask("take", "run-1")
    before = target.file.read_text()
    assert target.ask("take", "run-2")["run_id"] == "run-1"
    assert target.ask("take", "run-2", "--instead-of", "run-3")["run_id"] == "run-1"
    assert target.file.read_text() == before
    assert target.ask("take", "run-2", "--instead-of", "run-1")["run_id"] == "run-2"
    assert target.ask("take", "run-1")["run_id"] == "run-2"


@pytest.mark.parametrize(
    "content",
    [
        "x",
        "\n",
        "{}\n",
        '{"run_id": "a b", "since": 1, "renewed": 1, "renewed_up_s": 1}\n',
        '{"run_id": "$(id)", "since": 1, "renewed": 1, "renewed_up_s": 1}\n',
        '{"run_id": "a", "since": 01, "renewed": 1, "renewed_up_s": 1}\n',
        '{"run_id": "a", "since": 1, "renewed": 1, "renewed_up_s": 1}',
        '{"run_id": "a", "since": 1, "renewed": 1, "renewed_up_s": 1}\n' * 2,
        '{"run_id": "' + "a" * 65 + '", "since": 1, "renewed": 1, "renewed_up_s": 1}\n',
        "x" * 100_000,
    ],
)
def test_broken_lock_is_left_alone(target: Target, content: str) -> None:
    target.file.parent.mkdir(parents=True)
    target.file.write_text(content)
    for words in (["show"], ["take", "a"], ["take", "b", "--instead-of", "a"]):
        assert target.ask(*words) == {"lock": "broken", **NOBODY, "up_s": 100}
    assert target.file.read_text() == content


def test_lock_that_is_no_file(target: Target, tmp_path: Path) -> None:
    target.file.parent.mkdir(parents=True)
    target.file.symlink_to(tmp_path / "elsewhere")
    assert target.ask("take", "a")["lock"] == "broken"
    target.file.unlink()
    target.file.mkdir()
    assert target.ask("take", "a")["lock"] == "broken"


def test_emptied_lock_is_free(target: Target) -> None:
    target.ask("take", "run-1")
    target.file.write_text("")
    assert target.ask("show") == {"lock": "free", **NOBODY, "up_s": 100}
    assert target.ask("take", "run-2")["run_id"] == "run-2"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["steal"],
        ["show", "x"],
        ["take"],
        ["take", ""],
        ["take", "a b"],
        ["take", "a" * 65],
        ["take", "a", "b"],
        ["take", "a", "--for", "b"],
        ["take", "a", "--instead-of"],
        ["take", "a", "--instead-of", "../b"],
    ],
)
def test_what_it_does_not_understand_changes_nothing(target: Target, words: list[str]) -> None:
    process = target.start(*words)
    assert process.communicate(timeout=20)[0] == b""
    assert process.returncode == 2
    assert not target.file.parent.exists()


def test_of_many_at_once_one_wins(target: Target) -> None:
    processes = [target.start("take", f"run-{number}") for number in range(20)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    (winner,) = {answer["run_id"] for answer in answers}
    assert target.ask("show")["run_id"] == winner
    assert sorted(path.name for path in target.file.parent.iterdir()) in (["lock.guard", "lock.json"], ["lock.json"])
