"""When a person is asked before disks are wiped, why, and what becomes of the machine if nobody comes."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.exceptions import FlowPauseTimeout
from pydantic import BaseModel

from holdfast.base.errors import TargetRefused
from holdfast.facts.facts import Facts
from holdfast.plan.approval import nothing_to_approve, while_nobody_comes, why_ask
from holdfast.plan.plan import Plan
from tasks import approve
from tests.unit.cases import BY_ID, built, facts, host, plan

RUNS = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-cottage-25.11"
STORE = "/nix/store/" + "a" * 32
MARK = '{"run_id": "run-9", "plan_digest": "%s"}'
TWO = "vda size 6291456\nvda serial COTTAGE0001\nvdb size 2048\nvdb serial DATA"
UNPINNED = host(disks=[])


@pytest.mark.parametrize(
    ("inventory", "disks", "device", "why"),
    [
        ({}, TWO, BY_ID, ""),
        ({}, TWO, "/dev/vda", ""),
        ({"disks": [{"by_id": "virtio-COTTAGE0001"}]}, TWO, "/dev/vda", ""),
        ({"approve": "always"}, TWO, BY_ID, "approve = always"),
        ({"disks": [], "approve": "never"}, TWO, "/dev/vda", ""),
        ({"disks": []}, TWO, BY_ID, "the inventory pins no disks"),
        ({"disks": []}, "vda size 2048", "/dev/vda", "the inventory pins no disks"),
        ({"disks": []}, TWO, "/dev/vda", "pins no disks, and /dev/vda may be another of its 2 disks at the next boot"),
        ({"disks": []}, TWO, "/dev/disk/by-path/pci-1", "/dev/disk/by-path/pci-1 may be another of its 2 disks"),
        ({}, TWO.replace("DATA", "COTTAGE0001"), BY_ID, "a pin of the inventory fits"),
    ],
)
def test_who_is_asked_and_why(inventory: dict[str, Any], disks: str, device: str, why: str) -> None:
    seen = facts("debian-12", disks=disks, udev_serials="", disk_links=f"{BY_ID} vda\n/dev/disk/by-path/pci-1 vda")
    chosen = host(**inventory)
    said = why_ask(chosen, plan(seen, chosen, devices={"main": device}))
    assert why in said
    assert bool(said) == bool(why)
    if len(disks.splitlines()) == 1 or device == BY_ID:
        assert "at the next boot" not in said


def planned(seen: Facts, device: str) -> Plan:
    return plan(seen, UNPINNED, devices={"main": device})


def test_installed_system_with_a_changed_configuration_is_wiped_with_approval_only() -> None:
    # Any system of ours was taken for the one to be installed, and its disks for formatted already.
    seen = facts("nixos")
    made = planned(seen, "/dev/nvme0n1")
    assert nothing_to_approve(made, seen, built(), begun=False) == ""
    assert RUNS in nothing_to_approve(made, seen, built(toplevel=RUNS), begun=False)


def test_installer_that_formatted_for_another_plan_is_asked_about() -> None:
    made = planned(facts("installer"), BY_ID)
    mine = facts("installer", partition_mark=MARK % made.digest(built().disko_script))
    assert "run run-9 formatted" in nothing_to_approve(made, mine, built(), begun=False)
    assert nothing_to_approve(made, mine, built(disko_script=f"{STORE}-newer"), begun=False) == ""
    assert nothing_to_approve(made, facts("installer"), built(), begun=False) == ""
    assert "begun" in nothing_to_approve(made, facts("installer"), built(), begun=True)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (facts("debian-12"), "nothing was changed on cottage, it is in its origin"),
        (facts("nixos"), "nothing was changed on cottage, it is in its origin"),
        (facts("installer", units="holdfast-deadman.timer loaded active waiting"), "dead-man brings the origin back"),
        (facts("installer", units=""), "stays in the installer"),
    ],
)
def test_what_becomes_of_a_machine_that_nobody_approved(seen: Facts, said: str) -> None:
    assert said in while_nobody_comes(host(), seen)


class Desk:
    """What `approve` calls: a target that shows some facts, and a person who types, or does not come."""

    def __init__(self, seen: Facts) -> None:
        self.seen = seen
        self.typed: str | None = "cottage"
        self.said: list[str] = []
        self.forms: list[str] = []
        self.results: list[Any] = []

    @contextlib.contextmanager
    def arrive(self, _host: object) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def journaled(self, _name: str) -> Iterator[Any]:
        yield self.results.append

    def pause(self, *, wait_for_input: type[BaseModel], timeout: int, **_options: object) -> SimpleNamespace:
        assert timeout == 86400
        self.forms.append(str(wait_for_input._description))  # type: ignore[attr-defined]
        if self.typed is None:
            raise FlowPauseTimeout
        return SimpleNamespace(host=self.typed)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk(facts("debian-12"))
    monkeypatch.setattr(approve, "arrive", made.arrive)
    monkeypatch.setattr(approve, "journaled", made.journaled)
    monkeypatch.setattr(approve, "pause_flow_run", made.pause)
    monkeypatch.setattr(approve, "look", lambda _target: made.seen)
    monkeypatch.setattr(approve, "has_begun", lambda _target, _work: False)
    monkeypatch.setattr(approve, "say", made.said.append)
    return made


def test_phase_says_why_it_asks(desk: Desk) -> None:
    approve.approve(UNPINNED, planned(desk.seen, BY_ID), built())
    assert "since the inventory pins no disks" in desk.said[0]
    assert desk.forms[0].startswith("You are asked since the inventory pins no disks.\n\n# Install cottage")
    assert desk.results[0].skipped == ""


def test_phase_asks_nobody_about_pinned_disks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(approve, "look")
    approve.approve(host(), plan(desk.seen), built())
    assert desk.forms == []
    assert desk.results[0].skipped


def test_phase_asks_again_when_the_mark_was_removed_since_the_plan(desk: Desk) -> None:
    made = planned(facts("installer", partition_mark=MARK % "other"), BY_ID)
    assert made.resumes
    desk.seen = facts("installer")
    approve.approve(UNPINNED, made, built())
    assert len(desk.forms) == 1


def test_phase_ends_when_nobody_comes_or_another_name_is_typed(desk: Desk) -> None:
    desk.typed = None
    with pytest.raises(TargetRefused, match=r"nobody approved .* pins no disks; nothing was changed on cottage"):
        approve.approve(UNPINNED, planned(desk.seen, BY_ID), built())
    desk.typed = "barn"
    with pytest.raises(TargetRefused, match="another name was typed; nothing was changed on cottage"):
        approve.approve(UNPINNED, planned(desk.seen, BY_ID), built())
