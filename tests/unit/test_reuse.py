"""Disks that an install uses and does not wipe (disko's `destroy = false`): the plan, the installer, the proof."""

import pytest

from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.base.places import MARK_IN_RAM, MARK_ON_DISK
from holdfast.plan.approval import why_ask
from holdfast.plan.disks import DiskoDisk, plan_disks
from holdfast.plan.markdown import to_markdown
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built
from tasks.partition import partition
from tests.log import Remembered
from tests.unit.cases import BY_ID, built, facts, host, plan
from tests.unit.desk import Desk
from tests.unit.programs import Command
from tests.unit.server import body
from tests.unit.target import RUN, FakeMachine

DATA = "/dev/disk/by-id/ata-DATA"
DISKS = (
    "vda size 6291456\nvda serial COTTAGE0001\nvda number 254:0\nvdb size 2048\nvdb serial DATA\n"
    "vdb partition vdb1 1024 254:17\nvdc size 4096\nvdc serial KEPT"
)
LINKS = f"{BY_ID} vda\n{DATA} vdb\n{DATA}-part1 vdb1"
DEVICES = {"main": DiskoDisk(device=BY_ID), "data": DiskoDisk(device=DATA, destroy=False)}
HOST = host()


def made() -> Plan:
    return plan(facts("debian-12", disks=DISKS, disk_links=LINKS), HOST, devices=DEVICES, run_id=RUN)


def test_plan_shows_it_apart() -> None:
    """Nothing pins it: the pins name what may be wiped (nixos-anywhere#513, disko#1015)."""
    planned = made()
    assert [disk.device for disk in planned.wipe] == [BY_ID]
    assert [disk.device for disk in planned.reuse] == [DATA]
    assert [disk.device for disk in planned.keep] == ["/dev/vdc"]
    assert why_ask(HOST, planned) == ""
    text = to_markdown(planned)
    wiped, used, kept = (text.index(title) for title in ("## Will be wiped", "## Used, not wiped", "## Will not be t"))
    assert wiped < text.index("COTTAGE0001 |") < used < text.index("| DATA |") < kept < text.index("| KEPT |")
    assert "destroy = false" in text
    assert Plan.model_validate_json(planned.model_dump_json()) == planned


def test_digest_tells_whether_it_is_wiped() -> None:
    seen = facts("debian-12", disks=DISKS, disk_links=LINKS)
    both = plan(seen, host(disks=[]), devices={"main": BY_ID, "data": DATA}, run_id=RUN)
    alone = plan(seen, host(disks=[]), devices={"main": BY_ID}, run_id=RUN)
    assert len({both.layout_digest, alone.layout_digest, made().layout_digest}) == 3


@pytest.mark.parametrize(
    ("devices", "disks", "inventory", "said"),
    [
        ({"data": "/dev/disk/by-id/none"}, DISKS, {}, "by-id/none of the flake's disko configuration .data. is not"),
        ({"data": BY_ID}, DISKS, {}, "are the same disk"),
        (
            {"data": "/dev/vdb"},
            DISKS.replace("KEPT", "DATA").replace("4096", "2048"),
            {},
            "cannot be told from /dev/vdc",
        ),
        ({"data": DATA}, f"{DISKS}\nvdb readonly 1", {}, "is read-only"),
        # A pin may name it, too; another disk that is pinned has to be in the configuration.
        ({"data": DATA}, DISKS, {"disks": [{"serial": "COTTAGE0001"}, {"serial": "DATA"}]}, ""),
        ({"data": DATA}, DISKS, {"disks": [{"serial": "COTTAGE0001"}, {"serial": "KEPT"}]}, "pins: serial KEPT"),
        ({"data": DATA}, DISKS, {"disks": [{"serial": "DATA"}]}, "does not allow to wipe"),
    ],
)
def test_it_is_found_as_the_others_are(
    devices: dict[str, str], disks: str, inventory: dict[str, object], said: str
) -> None:
    named = {"main": DEVICES["main"]} | {name: DiskoDisk(device=at, destroy=False) for name, at in devices.items()}
    seen = facts("debian-12", disks=disks, disk_links=LINKS, udev_serials="")
    if said:
        with pytest.raises(TargetRefused, match=said):
            plan_disks(named, seen, host(**inventory))
    else:
        assert [disk.pinned for disk in plan_disks(named, seen, host(**inventory)).reuse] == [True]


def test_install_that_wipes_nothing_is_asked_about_unless_the_disk_is_pinned() -> None:
    seen = facts("debian-12", disks=DISKS, disk_links=LINKS)
    devices = {"data": DiskoDisk(device=DATA, destroy=False)}
    assert why_ask(host(disks=[]), plan(seen, host(disks=[]), devices=devices)) == "the inventory pins no disks"
    both = devices | {"more": DiskoDisk(device="/dev/vdc", destroy=False)}
    pinned = host(disks=[{"serial": "DATA"}])
    assert "no pin of the inventory fits /dev/vdc alone" in why_ask(pinned, plan(seen, pinned, devices=both))
    planned = plan(seen, pinned, devices=devices)
    assert why_ask(pinned, planned) == ""
    text = to_markdown(planned)
    assert "wipes no disk.\n\nNone.\n\n## Used, not wiped" in text


@pytest.fixture
def script(desk: Desk) -> Built:
    """The disko script, which wipes the one disk and mounts the other."""
    desk.scripts["/nix/store/abc-disko"] = f"#!/bin/sh\nwipefs {BY_ID}\nmount {DATA}-part1 /mnt/data\n"
    return built()


@pytest.fixture
def installer(machine: FakeMachine) -> FakeMachine:
    machine.is_in("installer", disks=DISKS, disk_links=LINKS)
    return machine


def layouts_are(machine: FakeMachine, *said: str) -> None:
    answers = list(said)

    def tell(command: Command) -> str:
        machine.tell(f"layout of {' '.join(command.args)}")
        return answers.pop(0)

    machine.on("disk-layout.sh", tell)


BEFORE = "/dev/vdb - 0 2048 - -\n/dev/vdb vdb1 8 1024 ext4 U-1\n/dev/vdb vdb2 2000 40 - -\n"


@pytest.mark.usefixtures("server")
def test_it_is_proved_that_it_was_not_wiped(installer: FakeMachine, script: Built, log: Remembered) -> None:
    # What disko may do: a partition and a file system where there was none.
    layouts_are(installer, BEFORE, BEFORE.replace("40 - -", "40 ext4 U-2") + "/dev/vdb vdb3 1100 8 swap U-3\n")
    body(partition)(HOST, made(), script)
    first = installer.story.index("digests of /dev/vdc")
    assert installer.story[first : first + 6] == [
        "digests of /dev/vdc",
        "layout of /dev/vdb",
        "dead-man stopped",
        "disks formatted",
        "digests of /dev/vdc",
        "layout of /dev/vdb",
    ]
    assert "used and not wiped, with all their partitions and file systems: /dev/vdb" in log.said
    assert f"formatting {BY_ID}, {DATA}, at most 1800 s" in log.said


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("after", "said"),
    [
        (BEFORE.replace("ext4 U-1", "ext4 U-9"), "/dev/vdb1 held ext4 U-1 and now holds ext4 U-9"),
        (BEFORE.replace("ext4 U-1", "btrfs U-1"), "/dev/vdb1 held ext4 U-1 and now holds btrfs U-1"),
        (BEFORE.replace("ext4 U-1", "- -"), "/dev/vdb1 held ext4 U-1 and now holds nothing"),
        (BEFORE.replace("vdb1 8 ", "vdb1 16 "), "/dev/vdb1 has another place or size"),
        (BEFORE.replace("2000 40", "2000 41"), "/dev/vdb2 has another place or size"),
        ("/dev/vdb - 0 2048 ext4 U-7\n", "/dev/vdb1 is gone and /dev/vdb2 is gone"),
        ("/dev/vdb - 0 - - -\n", "/dev/vdb has another place or size"),
    ],
)
def test_it_is_told_if_it_was_wiped(installer: FakeMachine, script: Built, after: str, said: str) -> None:
    layouts_are(installer, BEFORE, after)
    with pytest.raises(UnexpectedState, match=f"a disk that must not be wiped is not as before: .*{said}"):
        body(partition)(HOST, made(), script)
    # Nothing is formatted again.
    assert {MARK_ON_DISK, MARK_IN_RAM} <= installer.files.keys()


@pytest.mark.usefixtures("server")
def test_disk_without_partitions_keeps_its_file_system(installer: FakeMachine, script: Built) -> None:
    layouts_are(installer, "/dev/vdb - 0 2048 xfs U-1\n", "/dev/vdb - 0 2048 xfs U-2\n")
    with pytest.raises(UnexpectedState, match="/dev/vdb held xfs U-1 and now holds xfs U-2"):
        body(partition)(HOST, made(), script)


@pytest.mark.usefixtures("server")
def test_disk_that_the_script_does_not_open_has_to_stay_the_same(installer: FakeMachine, desk: Desk) -> None:
    assert desk.scripts == {}
    body(partition)(HOST, made(), built())
    assert "digests of /dev/vdb /dev/vdc" in installer.story
    assert not any(line.startswith("layout of") for line in installer.story)


@pytest.mark.usefixtures("server")
def test_disk_with_several_paths_is_opened_by_any_of_them(installer: FakeMachine, desk: Desk) -> None:
    wwid = "wwid naa.600140512345678901234567890abcde"
    disks = f"{DISKS}\nvdb {wwid}\nvdd size 2048\nvdd serial DATA\nvdd {wwid}\nvdd partition vdd1 1024 254:49"
    installer.shows("installer", disks=disks)
    desk.scripts["/nix/store/abc-disko"] = f"#!/bin/sh\nwipefs {BY_ID}\nmount /dev/vdd1 /mnt/data\n"
    seen = facts("debian-12", disks=disks, disk_links=LINKS)
    assert [disk.paths for disk in seen.disks if disk.name == "vdb"] == [("vdb", "vdd")]
    body(partition)(HOST, plan(seen, HOST, devices=DEVICES, run_id=RUN), built())
    assert [line for line in installer.story if line.startswith("layout")] == ["layout of /dev/vdb"] * 2
    assert "digests of /dev/vdc" in installer.story


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "said", ["", "/dev/vdc - 0 8 - -\n", "/dev/vdb vdb1 8 1024 ext4 U-1\n", "/dev/vdb - 0 $x - -\n"]
)
def test_nothing_is_formatted_if_its_layout_is_not_told(installer: FakeMachine, script: Built, said: str) -> None:
    layouts_are(installer, said)
    with pytest.raises(UnexpectedState, match="gave no valid layout for /dev/vdb"):
        body(partition)(HOST, made(), script)
    assert not {"disks formatted", "dead-man stopped"} & set(installer.story)


@pytest.mark.usefixtures("server")
def test_another_disk_in_its_place_stops_the_run(installer: FakeMachine, script: Built) -> None:
    installer.shows("installer", disks=DISKS.replace("vdb", "x").replace("vdc", "vdb").replace("x ", "vdc "))
    with pytest.raises(
        UnexpectedState, match=f"the disk DATA .*, which the plan has as {DATA}, is /dev/vdc in the inst"
    ):
        body(partition)(HOST, made(), script)
    assert "disks formatted" not in installer.story


FAILING = "failing: reallocated sectors"


@pytest.mark.parametrize("name", ["vda", "vdb", "vdc"])
def test_failing_disk_needs_a_person_whatever_is_pinned(name: str) -> None:
    seen = facts("debian-12", disks=DISKS, disk_links=LINKS)
    sick = tuple(disk.model_copy(update={"health": FAILING if disk.name == name else "passed"}) for disk in seen.disks)
    seen = seen.model_copy(update={"disks": sick})
    for chosen in (HOST, host(approve="never"), host(approve="always")):
        planned = plan(seen, chosen, devices=DEVICES)
        assert FAILING in why_ask(chosen, planned)
        text = to_markdown(planned).replace("\\", "")
        assert f"| {FAILING} |" in text
        assert f"is {FAILING}" in text[text.index("## Warnings") :]
    allowed = host(allow=["failing-disk"])
    assert why_ask(allowed, plan(seen, allowed, devices=DEVICES)) == ""
    asked = host(allow=["failing-disk"], approve="always")
    assert "approve = always" in why_ask(asked, plan(seen, asked, devices=DEVICES))


def test_health_is_in_the_plan() -> None:
    seen = facts("debian-12", disks=DISKS, disk_links=LINKS)
    well = tuple(disk.model_copy(update={"health": "passed"}) for disk in seen.disks[:1])
    planned = plan(seen.model_copy(update={"disks": (*well, *seen.disks[1:])}), HOST, devices=DEVICES)
    assert [disk.health for disk in planned.disks] == ["passed", "", ""]
    assert why_ask(HOST, planned) == ""
    assert "| passed |" in to_markdown(planned)
    assert "| unknown |" in to_markdown(planned)
