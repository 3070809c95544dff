"""When a person is asked before disks are wiped, why, and what becomes of the machine if nobody comes."""

import logging
from typing import Any

import pytest
from pydantic import JsonValue

from holdfast.base.errors import TargetRefused
from holdfast.facts.facts import Facts
from holdfast.plan.approval import nothing_to_approve, while_nobody_comes, why_ask
from holdfast.plan.plan import Plan
from tasks.approve import approve
from tasks.run.this_run import journal
from tests.unit.cases import BY_ID, built, derivation, facts, host, plan, system
from tests.unit.server import Server
from tests.unit.target import FakeMachine

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
    mine = facts("installer", partition_mark=MARK % made.layout_digest)
    assert "run run-9 formatted" in nothing_to_approve(made, mine, built(), begun=False)
    newer = plan(facts("installer"), UNPINNED, planned=system(disko_script=derivation("newer")))
    assert nothing_to_approve(newer, mine, built(), begun=False) == ""
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


def how_it_ended() -> JsonValue:
    """Return what the journal has of the phase."""
    *_, last = journal().entries()
    assert (last.phase, last.outcome) == ("approve", "done")
    return last.result


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tests")


def test_phase_says_why_it_asks(machine: FakeMachine, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    approve(UNPINNED, planned(facts("debian-12"), BY_ID), built())
    assert "because the inventory pins no disks" in caplog.messages[0]
    first, why, title, *_ = server.forms[0].split("\n\n")
    assert first.startswith("**WIPES ")
    assert "GiB" in first
    assert why == "You are asked because the inventory pins no disks."
    assert title == "# Install cottage"
    [field] = server.fields
    assert (field.title, field.is_required()) == ("Type cottage to approve", True)
    assert how_it_ended() == {"skipped": ""}
    assert machine.story == []


def test_phase_asks_nobody_about_pinned_disks(machine: FakeMachine, server: Server) -> None:
    approve(host(), plan(facts("debian-12")), built())
    assert (server.forms, machine.asked) == ([], [])
    assert how_it_ended() == {"skipped": "no approval is asked for"}


def test_phase_asks_again_when_the_mark_was_removed_since_the_plan(machine: FakeMachine, server: Server) -> None:
    made = planned(facts("installer", partition_mark=MARK % "other"), BY_ID)
    assert made.resumes
    machine.is_in("installer")
    approve(UNPINNED, made, built())
    assert len(server.forms) == 1


@pytest.mark.usefixtures("machine")
def test_phase_ends_when_nobody_comes_or_another_name_is_typed(server: Server) -> None:
    server.typed = None
    with pytest.raises(TargetRefused, match=r"nobody approved .* pins no disks; nothing was changed on cottage"):
        approve(UNPINNED, planned(facts("debian-12"), BY_ID), built())
    server.typed = "barn"
    with pytest.raises(TargetRefused, match="another name was typed; nothing was changed on cottage"):
        approve(UNPINNED, planned(facts("debian-12"), BY_ID), built())
