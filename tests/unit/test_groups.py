"""What lies on several disks: what is lost if one of them is wiped, and where it is mounted."""

from pathlib import Path

import pytest

from holdfast.base.errors import TargetRefused
from holdfast.facts.facts import Facts
from holdfast.facts.storage import Group
from holdfast.plan.disks import DiskoDisk, plan_disks
from holdfast.plan.groups import LONGEST_CONTENT
from holdfast.plan.markdown import to_markdown
from tests.unit.cases import facts, host, plan, system
from tests.unit.layouts import layout

DEVICES = {"main": DiskoDisk(device="/dev/sda")}
BOTH = {**DEVICES, "data": DiskoDisk(device="/dev/sdb")}
USED = {**DEVICES, "data": DiskoDisk(device="/dev/sdb", destroy=False)}


def machine(*groups: Group) -> Facts:
    """A machine with the disks sda, sdb and sdc."""
    disks = "\n".join(
        f"{name} size {size}\n{name} serial {name.upper()}" for name, size in zip(NAMES, (8, 9, 10), strict=True)
    )
    seen = facts("debian-12", disks=disks, udev_serials="", disk_links="")
    return seen.model_copy(update={"groups": groups})


NAMES = ("sda", "sdb", "sdc")
ANY = host(disks=[])
ALLOWED = host(disks=[], allow=["breaks-group"])


def group(kind: str, *disks: str, name: str = "data", at: tuple[str, ...] = ()) -> Group:
    return Group(kind=kind, name=name, disks=disks, mountpoints=at)


@pytest.mark.parametrize(
    ("there", "devices", "said"),
    [
        (
            group("LVM volume group", "sda", "sdb", at=("/", "/srv")),
            DEVICES,
            r"the LVM volume group data \(at /, /srv\) lies on /dev/sda, to be wiped, and on /dev/sdb, not to be wiped:"
            " disko removes it whole, with what is on /dev/sdb",
        ),
        (group("ZFS pool", "sda", "sdc"), BOTH, "the ZFS pool data lies on /dev/sda.*removes it.*on /dev/sdc"),
        (group("RAID array", "sda", "sdb", "sdc"), BOTH, "on /dev/sda, /dev/sdb, to be wiped, and on /dev/sdc.*breaks"),
        (group("btrfs", "sdb", "sda", name=""), DEVICES, "the btrfs without a name lies on /dev/sda.*may be lost"),
        (group("bcachefs", "sdb", "sda"), DEVICES, "the bcachefs data .*breaks"),
        (group("bcache", "sda", "sdb"), DEVICES, "the bcache data .*breaks"),
        (group("LUKS", "sda", "sdb"), DEVICES, "the LUKS data .*breaks"),
        # A disk that is used and not wiped loses it as well.
        (group("LVM volume group", "sda", "sdb"), USED, "on /dev/sdb, not to be wiped"),
    ],
)
def test_group_over_a_wiped_and_another_disk_is_refused(there: Group, devices: dict[str, DiskoDisk], said: str) -> None:
    with pytest.raises(TargetRefused, match=said) as error:
        plan_disks(devices, machine(there), ANY)
    assert '"breaks-group" to allow' in error.value.hint
    assert "\n" not in str(error.value)
    made = plan(machine(there), ALLOWED, devices=devices)
    [lost] = [warning for warning in made.warnings if there.kind in warning]
    assert lost.endswith("The inventory allows it (breaks-group)")
    assert "## Warnings" in to_markdown(made)


def test_two_pools_of_one_name_are_not_told_apart_by_disko() -> None:
    seen = machine(group("ZFS pool", "sda", name="tank"), group("ZFS pool", "sdb", name="tank"))
    with pytest.raises(TargetRefused, match="ZFS pool tank lies on /dev/sda, to be wiped, and on /dev/sdb"):
        plan_disks(DEVICES, seen, ANY)
    plan_disks(DEVICES, machine(seen.groups[0], group("RAID array", "sdb", name="tank")), ANY)
    # File systems go by their devices: many have the same label.
    plan_disks(DEVICES, machine(group("btrfs", "sda", name="root"), group("btrfs", "sdb", name="root")), ANY)


def test_all_that_breaks_is_named() -> None:
    layers = [
        group("RAID array", "sda", "sdb", name="md0", at=("/boot",)),
        group("RAID array", "sda", "sdb", name="md1"),
        group("LVM volume group", "sda", "sdb", name="pool"),
    ]
    said = (
        r"the RAID array md0 \(at /boot\), the RAID array md1 lie on /dev/sda, .*: they break, and what is on /dev/sdb"
        " may be lost; the LVM volume group pool lies on"
    )
    with pytest.raises(TargetRefused, match=said):
        plan_disks(DEVICES, machine(*layers), ANY)


@pytest.mark.parametrize(
    ("there", "devices"),
    [
        (group("LVM volume group", "sda", "sdb"), BOTH),
        (group("LVM volume group", "sdb", "sdc"), DEVICES),
        (group("ZFS pool", "sda"), DEVICES),
        (group("RAID array", "sdb", "sdc"), USED),
    ],
)
def test_group_on_wiped_disks_alone_or_on_others_alone_is_no_reason(
    there: Group, devices: dict[str, DiskoDisk]
) -> None:
    assert plan_disks(devices, machine(there), ANY).losses == ()


def test_each_member_says_what_it_is_a_part_of_and_where_that_is_mounted() -> None:
    """The kernel shows btrfs as mounted from one of its devices; the flake may name the other (util-linux#4145)."""
    seen = machine(group("btrfs", "sda", "sdb", name="LIVE", at=("/", "/home")), group("LUKS", "sdc", name="c"))
    disks = plan_disks(BOTH, seen, ANY)
    first, second = (disk.content for disk in disks.wipe)
    assert first.endswith("part of btrfs LIVE with /dev/sdb at /, /home")
    assert second.endswith("part of btrfs LIVE with /dev/sda at /, /home")
    assert "part of" not in disks.keep[0].content


def test_what_a_target_says_of_its_groups_does_not_grow_without_bounds() -> None:
    """Devices stacked on all disks, with long names: a plan of them would fill the operator's memory."""
    names = tuple(f"disk{number:03}" for number in range(250))
    disks = "\n".join(f"{name} size {1000 + number}" for number, name in enumerate(names))
    places = tuple(f"/{'x' * 200}{number}" for number in range(64))
    groups = tuple(group("LUKS", *names, name=f"{'y' * 200}{number}", at=places) for number in range(1024))
    seen = facts("debian-12", disks=disks, udev_serials="", disk_links="").model_copy(update={"groups": groups})
    planned = plan(seen, ALLOWED, devices={"main": "/dev/disk000"})
    assert max(len(disk.content) for disk in planned.disks) <= LONGEST_CONTENT
    assert max(len(warning) for warning in planned.warnings) <= 3 * LONGEST_CONTENT
    with pytest.raises(TargetRefused) as error:
        plan_disks({"main": DiskoDisk(device="/dev/disk000")}, seen, ANY)
    assert len(error.value.message) <= 3 * LONGEST_CONTENT


def test_disks_that_are_formatted_already_lose_nothing_more() -> None:
    mark = '{"run_id": "r", "plan_digest": "d"}'
    there = group("LVM volume group", "vda", "vdb")
    seen = facts("installer", disks="vda size 8\nvda serial A\nvdb size 9\nvdb serial B", partition_mark=mark)
    made = plan(seen.model_copy(update={"groups": (there,)}), ANY, devices={"main": "/dev/vda"})
    assert made.resumes


def test_installed_system_loses_nothing_more() -> None:
    seen = facts("nixos", system_mark='{"run_id": "r", "plan_digest": "d"}')
    there = group("LVM volume group", "nvme0n1", "nvme1n1")
    seen = seen.model_copy(update={"groups": (there,)})
    runs = system(toplevel={"out": seen.booted_system, "drv": "/nix/store/x.drv"})
    assert plan(seen, ANY, devices={"main": "/dev/nvme0n1"}, planned=runs, reinstall=True).warnings
    with pytest.raises(TargetRefused, match="LVM volume group data"):
        plan(seen, ANY, devices={"main": "/dev/nvme0n1"}, reinstall=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bcache", "the bcache bcache0 .at /. lies on /dev/sda, to be wiped, and on /dev/sdb"),
        ("bcachefs-two-disks", "the bcachefs .* .at /. lies on /dev/sda"),
        ("btrfs-two-disks", "the btrfs LIVE .at /, /home. lies on /dev/sda"),
        ("lvm-two-disks", "LVM volume group office-vg .at /, /home. lies .* on /dev/sdb, /dev/sdc, not to be wiped"),
        ("raid1-lvm", "the RAID array md127 .at /. lies .*; the LVM volume group vg0 .at /. lies"),
        ("raid1-root", "md0 .at .swap.., the RAID array md1 .at /boot., the RAID array md2 .at /. lie on /dev/sda"),
        # Nothing of it runs, and nothing is mounted.
        ("rescue", "the RAID array web:boot, the btrfs .* lie on .*; the LVM volume group vg0 lies on"),
        ("zfs-mirror", "the ZFS pool rpool .at /, /rpool, .swap.. lies on /dev/sda"),
        ("lvm-on-luks", ""),
        ("multipath", ""),
        ("multipath-without-daemon", ""),
        ("nvme-multipath", ""),
        ("nvme-namespaces", ""),
        ("plain", ""),
        ("virtual-devices", ""),
    ],
)
def test_first_disk_of_a_real_layout(tmp_path: Path, name: str, said: str) -> None:
    seen = layout(name).make(tmp_path)
    devices = {"main": DiskoDisk(device=seen.disks[0].path)}
    if not said:
        assert plan_disks(devices, seen, ANY).losses == ()
        return
    with pytest.raises(TargetRefused, match=said):
        plan_disks(devices, seen, ANY)
    # All of its disks: nothing of it is left.
    every = {disk.name: DiskoDisk(device=disk.path) for disk in seen.disks}
    assert plan_disks(every, seen, ANY).losses == ()


def test_flake_names_the_device_that_is_not_shown_as_mounted(tmp_path: Path) -> None:
    seen = layout("btrfs-two-disks").make(tmp_path)
    with pytest.raises(TargetRefused, match=r"btrfs LIVE .at /, /home. lies on /dev/sdb, to be wiped, and on /dev/sda"):
        plan_disks({"main": DiskoDisk(device="/dev/sdb")}, seen, ANY)
    assert "at /, /home" in plan(seen, ALLOWED, devices={"main": "/dev/sdb"}).wipe[0].content
