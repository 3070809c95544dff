"""`just plan`: what it prints, and that it neither pins a key nor asks Prefect."""

import subprocess
import sys
from pathlib import Path

import pytest

from deployments import plan as show
from holdfast.base.errors import NotTrusted
from holdfast.base.settings import PROJECT
from tests.unit.desk import Desk
from tests.unit.target import FakeMachine

INVENTORY = '[cottage]\ntarget = "100.64.0.2"\nkexec = "github:o/r#kexec"\n'


@pytest.fixture(autouse=True)
def inventory(tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert desk.built
    path = tmp_path / "hosts.toml"
    path.write_text(INVENTORY)
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(path))
    return path


def test_it_prints_the_plan_and_who_is_asked(machine: FakeMachine, capsys: pytest.CaptureFixture[str]) -> None:
    assert show.main("cottage") == 0
    said = capsys.readouterr().out
    for part in ("Will be wiped", "COTTAGE0001", "vda1", "\\"):
        assert (part in said) is (part != "\\")
    assert said.rstrip().endswith(
        "A person will be asked before these disks are wiped, because the inventory pins no disks."
    )
    assert [endpoint.allow_first_use for endpoint in machine.endpoints] == [False]
    assert machine.story == []


@pytest.mark.parametrize(
    ("more", "seen", "said"),
    [
        ('disks = [{ serial = "COTTAGE0001" }]', {}, "Nobody will be asked before these disks are wiped: all disks"),
        ('approve = "never"', {}, "Nobody will be asked before these disks are wiped: approve = never."),
        (
            "",
            {"partition_mark": '{"run_id": "r", "plan_digest": "d"}'},
            "Nobody will be asked if the disks were formatted for this plan. Otherwise a person will be asked, because",
        ),
    ],
)
def test_whether_a_person_will_be_asked(
    machine: FakeMachine,
    inventory: Path,
    capsys: pytest.CaptureFixture[str],
    more: str,
    seen: dict[str, str],
    said: str,
) -> None:
    inventory.write_text(f"{INVENTORY}{more}\n")
    machine.is_in("installer", **seen)
    assert show.main("cottage") == 0
    assert said in capsys.readouterr().out


def test_run_that_works_there_is_told_of(machine: FakeMachine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.locked_by = "run-1"
    assert show.main("cottage") == 0
    assert "plan: an install would have to wait: another run works on cottage" in capsys.readouterr().err


def test_refusal_is_one_line(machine: FakeMachine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.ways["100.64.0.2"] = NotTrusted(
        "cottage answered with the host key ssh-ed25519 SHA256:x, which is unknown here.", hint="Compare it."
    )
    assert show.main("cottage") == 2
    assert capsys.readouterr().err == (
        "plan: cottage answered with the host key ssh-ed25519 SHA256:x, which is unknown here. Hint: Compare it.\n"
    )
    assert show.main("cotage") == 2
    assert "Did you mean 'cottage'" in capsys.readouterr().err
    assert machine.commands == []


@pytest.mark.parametrize("words", [("--help",), ("cottage", "--help"), ("cottage", "", "-n")])
def test_it_knows_no_flag(machine: FakeMachine, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert show.main(*words) == 2
    assert capsys.readouterr().err == f"plan: there is no flag {words[-1]}. Hint: just plan HOST [TARGET] [KEXEC]\n"
    assert machine.commands == []


def test_it_does_not_even_load_prefect() -> None:
    code = "import deployments.plan, sys; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False, timeout=60).returncode == 0
