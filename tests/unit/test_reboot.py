"""Which system is told to reboot, and how."""

import contextlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Self

import pytest

from holdfast.base.errors import UnexpectedState
from holdfast.facts.facts import Facts
from holdfast.plan.results import Rebooted
from tasks import reboot as file
from tests.unit.cases import built, facts, host

BUILT = built(toplevel=facts("nixos").booted_system)
FINAL = facts("nixos")
TRIAL = facts("nixos", trial="600\n")


class Machine:
    """Takes notes of what it is told."""

    def __init__(self, seen: Facts) -> None:
        self.seen = seen
        self.told: list[object] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, argv: Sequence[str], *, timeout_s: float) -> None:
        assert timeout_s > 0
        self.told.append(argv[-2:])

    def run_script(self, script: str, words: Sequence[str], **_options: object) -> None:
        assert "leave-installer.sh ROOT reboot|kexec" in script
        self.told.append(list(words))


def reboot(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Rebooted:
    monkeypatch.setattr(file, "arrive", lambda _host: machine)
    monkeypatch.setattr(file, "look", lambda _target: machine.seen)
    monkeypatch.setattr(file, "hold_target", lambda _target, _facts: machine.told.append("hold"))
    monkeypatch.setattr(file, "lines", lambda: contextlib.nullcontext(SimpleNamespace(add=print)))
    monkeypatch.setattr(file, "say", lambda _text: None)
    phase: Any = file.reboot
    done: Rebooted = phase.fn.__wrapped__(host(), BUILT)
    return done


@pytest.mark.parametrize(("seen", "told"), [(TRIAL, ["systemctl", "reboot"]), (facts("installer"), ["/mnt", "reboot"])])
def test_what_has_to_reboot_does(monkeypatch: pytest.MonkeyPatch, seen: Facts, told: list[str]) -> None:
    machine = Machine(seen)
    done = reboot(machine, monkeypatch)
    assert machine.told == ["hold", told]
    assert (done.boot_id, done.skipped, done.rebooted_at > 0) == (seen.boot_id, "", True)


def test_system_that_booted_from_its_disk_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(FINAL)
    assert "runs the installed system" in reboot(machine, monkeypatch).skipped
    assert machine.told == []


def test_origin_is_not_rebooted(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(facts("debian-12"))
    with pytest.raises(UnexpectedState):
        reboot(machine, monkeypatch)
    assert machine.told == []
