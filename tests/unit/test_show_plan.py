"""`just plan`: what it prints, and that it neither pins a key nor asks Prefect."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployments import plan as show
from holdfast.base.errors import NotTrusted, TargetRefused
from holdfast.base.settings import PROJECT
from holdfast.target import lock, planning
from tests.unit.cases import BY_ID, LOGIN_KEY, facts

INVENTORY = '[cottage]\ntarget = "100.64.0.2"\nkexec = "github:o/r#kexec"\n'


class World:
    def __init__(self) -> None:
        self.seen = facts("debian-12")
        self.locked = False
        self.reached: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def reach(self, _host: object, **options: Any) -> Iterator[SimpleNamespace]:
        self.reached.append(options)
        yield SimpleNamespace(
            host_key="ssh-ed25519 AAAA", login_key=LOGIN_KEY, endpoint=SimpleNamespace(user="root", port=22)
        )

    def check(self, *_args: object, **_options: object) -> None:
        if self.locked:
            raise TargetRefused("another run works on cottage: run-1.", hint="Wait for it.")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    path = tmp_path / "hosts.toml"
    path.write_text(INVENTORY)
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(path))
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(planning, "reach", made.reach)
    monkeypatch.setattr(planning, "look", lambda _target: made.seen)
    monkeypatch.setattr(planning, "disko_devices", lambda _host, **_options: {"main": BY_ID})
    monkeypatch.setattr(planning, "check_target", lambda *_given: None)
    monkeypatch.setattr(lock, "check", made.check)
    return made


def test_it_prints_the_plan_and_who_is_asked(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert show.main("cottage") == 0
    said = capsys.readouterr().out
    for part in ("Will be wiped", "COTTAGE0001", "vda1", "\\"):
        assert (part in said) is (part != "\\")
    assert said.rstrip().endswith(
        "A person will be asked before these disks are wiped, since the inventory pins no disks."
    )
    assert world.reached == [{"first_use": False}]


@pytest.mark.parametrize(
    ("more", "seen", "said"),
    [
        ('disks = [{ serial = "COTTAGE0001" }]', {}, "Nobody will be asked before these disks are wiped: all disks"),
        ('approve = "never"', {}, "Nobody will be asked before these disks are wiped: approve = never."),
        (
            "",
            {"partition_mark": '{"run_id": "r", "plan_digest": "d"}'},
            "Nobody will be asked if the disks were formatted for this plan. Otherwise a person will be asked, since",
        ),
    ],
)
def test_whether_a_person_will_be_asked(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, seen: dict[str, str], said: str
) -> None:
    (tmp_path / "hosts.toml").write_text(f"{INVENTORY}{more}\n")
    world.seen = facts("installer", **seen)
    assert show.main("cottage") == 0
    assert said in capsys.readouterr().out


def test_run_that_works_there_is_told_of(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.locked = True
    assert show.main("cottage") == 0
    assert "plan: an install would have to wait: another run works on cottage" in capsys.readouterr().err


def test_refusal_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_given: object, **_options: object) -> None:
        raise NotTrusted("cottage answered with a key which nothing vouches for.", hint="Compare it.")

    monkeypatch.setattr(planning, "reach", refuse)
    assert show.main("cottage") == 2
    assert capsys.readouterr().err == (
        "plan: cottage answered with a key which nothing vouches for. Hint: Compare it.\n"
    )
    assert show.main("cotage") == 2
    assert "Did you mean 'cottage'" in capsys.readouterr().err
    assert world.reached == []


def test_it_does_not_even_load_prefect() -> None:
    code = "import deployments.plan, sys; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False, timeout=60).returncode == 0
