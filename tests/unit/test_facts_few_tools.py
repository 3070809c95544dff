"""A target without smartctl, pvs, zpool, lsblk, blkid or udev: facts and plan are made, what is unknown is not free."""

import dataclasses
from collections.abc import Collection
from pathlib import Path

import pytest

from holdfast.facts.facts import Facts
from holdfast.plan.plan import Plan
from tests.unit.cases import host, plan
from tests.unit.layouts import TOOLS, layout

LAYOUTS = ("plain", "lvm-two-disks")
UDEV = "udev"
MISSING = [
    (),
    *[(tool,) for tool in ("smartctl", "pvs", "zpool", "lsblk", "blkid", UDEV)],
    ("lsblk", "blkid"),
    (*TOOLS, UDEV),
]
NOTHING_TOLD = "neither lsblk nor blkid"


def without(name: str, missing: Collection[str], folder: Path) -> tuple[Facts, Plan]:
    """Return the facts of a layout whose machine lacks these programs, and the plan that wipes its first disk."""
    whole = layout(name)
    of_udev = ("run/udev/", "dev/disk/")
    made = dataclasses.replace(
        whole,
        tools={tool: said for tool, said in whole.tools.items() if tool not in missing},
        files={name: text for name, text in whole.files.items() if UDEV not in missing or not name.startswith(of_udev)},
        links={name: to for name, to in whole.links.items() if UDEV not in missing or not name.startswith(of_udev)},
    )
    seen = made.make(folder, lsblk="lsblk" not in missing and "blkid" not in missing)
    wanted = host(disks=[], allow=["breaks-group"])
    return seen, plan(seen, wanted, devices={"main": seen.disks[0].path})


@pytest.mark.parametrize("missing", MISSING, ids=lambda missing: " ".join(missing)[:40] or "none")
@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_not_known_is_said_to_be_unknown(name: str, missing: tuple[str, ...], tmp_path: Path) -> None:
    all_told, _ = without(name, (), tmp_path / "whole")
    seen, made = without(name, missing, tmp_path / "less")
    assert [disk.name for disk in seen.disks] == [disk.name for disk in all_told.disks]
    for disk, known in zip(seen.disks, all_told.disks, strict=True):
        assert disk.health in ("", known.health)
        for part, told in zip((disk.content, *disk.partitions), (known.content, *known.partitions), strict=True):
            assert part.fstype in ("", told.fstype)
            assert part.fstype or part.name == disk.name or "unknown content" in part.describe()
        # A disk of which nothing is known is not said to be empty.
        assert disk.describe_content() != "" and (
            "empty" not in disk.describe_content() or "unknown" in disk.describe_content()
        )
    assert [planned.name for planned in made.disks][:1] == [seen.disks[0].name]
    # The lsblk of these layouts knows what their blkid knows.
    assert any(NOTHING_TOLD in warning for warning in made.warnings) == ("blkid" in missing)


@pytest.mark.parametrize(
    ("name", "missing", "warned"),
    [
        ("lvm-two-disks", (), False),
        ("lvm-two-disks", ("pvs",), True),
        # The kernel tells of volumes that are active, and there is no other disk to share with.
        ("centos-7", ("pvs",), False),
        ("plain", ("pvs",), False),
        ("btrfs-two-disks", ("pvs",), False),
    ],
)
def test_volume_group_that_nobody_names_is_warned_of(
    name: str, missing: tuple[str, ...], *, warned: bool, tmp_path: Path
) -> None:
    _, made = without(name, missing, tmp_path)
    assert any("may have parts on other disks" in warning for warning in made.warnings) == warned


@pytest.mark.parametrize("name", ["btrfs-two-disks", "zfs-mirror", "lvm-two-disks"])
def test_what_is_in_use_is_known_without_any_tool(name: str, tmp_path: Path) -> None:
    all_told, _ = without(name, (), tmp_path / "whole")
    seen, _ = without(name, ("lsblk", "blkid"), tmp_path / "less")
    assert [disk.mountpoints for disk in seen.disks] == [disk.mountpoints for disk in all_told.disks]
    assert [group.disks for group in seen.groups] == [group.disks for group in all_told.groups]
