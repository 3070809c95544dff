"""Whole installs on a machine with several disks: what is not to be wiped is not, or the run says so in time."""

from pathlib import Path

import pytest

from holdfast.base.errors import TargetRefused, UnexpectedState
from tests.log import Remembered
from tests.unit.cases import BY_ID, KEXEC_RUN, status
from tests.unit.desk import Desk
from tests.unit.programs import CASES, Command
from tests.unit.server import Server
from tests.unit.target import FakeMachine
from tests.unit.test_archive import NODE, STATE, tar_of
from tests.unit.test_image import whole, write
from tests.unit.test_reuse import BEFORE, DATA, DISKS, LINKS, layouts_are
from tests.unit.test_whole_runs import INVENTORY, run_flow

SCRIPT = "/nix/store/abc-disko"


@pytest.fixture(autouse=True)
def there(tmp_path: Path, machine: FakeMachine, desk: Desk, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with three disks; the flake wipes the first and uses the second."""
    assert server
    image = write(tmp_path / "image.tar", whole(run=KEXEC_RUN.encode()), "w")
    (tmp_path / "hosts.toml").write_text(INVENTORY.format(image))
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(tmp_path / "hosts.toml"))
    machine.archive = tar_of(STATE)
    for system, case in CASES.items():
        known = status(case, PublicKey=NODE.node_key, ID=NODE.node_id)
        machine.shows(system, tailscale_status=known, disks=DISKS, disk_links=LINKS)
    desk.disks["data"] = {"device": DATA, "destroy": False}
    desk.scripts[SCRIPT] = f"#!/bin/sh\nwipefs {BY_ID}\nmount {DATA}-part1 /mnt/data\n"


def test_disk_that_is_used_and_not_wiped(
    machine: FakeMachine, server: Server, log: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_flow("install", monkeypatch)
    proofs = [line for line in machine.story if line.startswith(("digests", "layout", "disks formatted"))]
    assert proofs == [
        "digests of /dev/vdc",
        "layout of /dev/vdb",
        "disks formatted",
        "digests of /dev/vdc",
        "layout of /dev/vdb",
    ]
    assert machine.disk == "final"
    assert "## Used, not wiped" in server.artifacts["plan-cottage"]
    assert any(line.endswith(f"wipes {BY_ID}") for line in log.said)


def test_disk_that_is_wiped_all_the_same(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts_are(machine, BEFORE, BEFORE.replace("U-1", "U-2"))
    with pytest.raises(UnexpectedState, match="/dev/vdb1 held ext4 U-1 and now holds ext4 U-2"):
        run_flow("install", monkeypatch)
    assert not any(line.startswith("nixos-install") for line in machine.story)


VOLUMES = {
    "volume_groups": "/dev/vda1 data\n/dev/vdc data\n",
    "disks": f"{DISKS}\nvda partition vda1 2048 254:1",
    "mountinfo": "27 1 254:33 / /srv rw - ext4 /dev/vdc rw",
}


def test_group_over_a_wiped_and_a_kept_disk(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.shows("origin", **VOLUMES)
    with pytest.raises(TargetRefused, match=r"LVM volume group data.* lies on /dev/vda, to be wiped, and on /dev/vdc"):
        run_flow("install", monkeypatch)
    assert machine.story == []


def test_group_that_only_the_installer_sees(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.shows("installer", **{**VOLUMES, "mountinfo": ""})
    with pytest.raises(TargetRefused, match="LVM volume group data lies on /dev/vda, to be wiped, and on /dev/vdc"):
        run_flow("install", monkeypatch)
    assert "disks formatted" not in machine.story


@pytest.mark.parametrize(
    ("opened", "said"),
    [
        ("mkfs.ext4 /dev/vdc", "opens /dev/vdc on /dev/vdc .serial KEPT.*nothing was formatted"),
        ("mkfs.ext4 /dev/disk/by-partlabel/disk-main-root", "which is /dev/vdc1 there, on /dev/vdc"),
    ],
)
def test_script_that_opens_a_kept_disk(
    machine: FakeMachine, desk: Desk, monkeypatch: pytest.MonkeyPatch, opened: str, said: str
) -> None:
    desk.scripts[SCRIPT] += f"{opened}\n"
    label = "/dev/disk/by-partlabel/disk-main-root vdc1"
    machine.shows("installer", disks=f"{DISKS}\nvdc partition vdc1 8 254:33", disk_links=f"{LINKS}\n{label}")
    with pytest.raises(UnexpectedState, match=said):
        run_flow("install", monkeypatch)
    assert "disks formatted" not in machine.story
    # Nobody comes any more: the untouched origin comes back.
    machine.clock.sleep(1000)
    assert machine.story[-2:] == ["dead-man fires", "origin boots"]


def test_script_for_other_disks(machine: FakeMachine, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.scripts |= {SCRIPT: "#!/bin/sh\nwipefs /dev/vdz\n", f"{SCRIPT}-mount": "#!/bin/sh\n"}
    with pytest.raises(UnexpectedState, match=f"does not open {BY_ID}, which the plan wipes"):
        run_flow("install", monkeypatch)
    assert "disks formatted" not in machine.story


def test_answer_about_paths_that_is_none(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    def say(_: Command) -> str:
        return "1 vda vda; rm -rf /\n"

    machine.on("disk-paths.sh", say)
    with pytest.raises(UnexpectedState, match="did not say where the paths of the disko script lead"):
        run_flow("install", monkeypatch)
    assert "disks formatted" not in machine.story


def test_disk_that_begins_to_fail_in_the_installer(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.shows("installer", health="vda 8 SMART overall-health self-assessment test result: FAILED!\n")
    with pytest.raises(UnexpectedState, match=r"/dev/vda .*is failing: .*which the plan did not show.*failing-disk"):
        run_flow("install", monkeypatch)
    assert "disks formatted" not in machine.story


def test_failing_disk_is_pinned_and_a_person_is_asked(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for system in ("origin", "installer"):
        machine.shows(system, health="vda 8 SMART overall-health self-assessment test result: FAILED!\n")
    server.typed = None
    with pytest.raises(TargetRefused, match="nobody approved the plan"):
        run_flow("install", monkeypatch)
    [form] = server.forms
    assert "is failing" in form
    assert "installer boots" not in machine.story
    server.typed = "cottage"
    run_flow("install", monkeypatch)
    assert machine.disk == "final"
