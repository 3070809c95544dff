"""Makes docs/layouts.md: what the plan says of layouts of disks. `python -m tests.unit.layouts_page` writes it anew."""

import tempfile
import textwrap
from pathlib import Path
from typing import Final, NamedTuple

from holdfast.base.errors import TargetRefused
from holdfast.facts.facts import Facts
from holdfast.plan.disks import PlannedDisk
from tests.unit.cases import host, plan
from tests.unit.layouts import layout

PAGE: Final = Path(__file__).parents[2] / "docs" / "layouts.md"
_BY_ID: Final = "/dev/disk/by-id"
_HEAD: Final = """# Layouts of disks, and what the plan says of them

`just plan` shows every disk of a machine, what is on it, and what would become of it. This page shows that for fourteen
layouts. A test makes it from [small copies, written by hand, of what such machines
show](../tests/unit/facts/layouts) in sysfs, `/dev` and the answers of `blkid`, `lsblk`, `pvs` and `zpool`; so it is
what this version says. The inventory of these examples pins no disk.

Three rules explain most of it:

- A disk counts as mounted where anything is mounted that lies on it, through any number of layers. What lies on a
  volume group, a pool or a file system over several disks lies on each of them.
- Volumes, arrays, maps and network block devices are no disks. The disk that carries them names them: `sda3 ZFS 'rpool'
  with zd0, zd16`.
- To wipe one disk of a group takes the group from the others, too. That is refused, unless `allow` has `breaks-group`.
"""


class Case(NamedTuple):
    """A layout, the disks that a flake names there, and why the plan says what it says."""

    layout: str
    devices: tuple[str, ...]
    why: str


CASES: Final = (
    Case("plain", (f"{_BY_ID}/ata-Samsung_SSD_860_S3Z9NB0K100001",), "One disk is named, so the other one is kept."),
    Case(
        "lvm-two-disks",
        (f"{_BY_ID}/ata-Samsung_SSD_860_S3Z9NB0K100001",),
        "The root lies on the named disk alone. Its volume group does not: disko removes the whole group.",
    ),
    Case(
        "lvm-on-luks",
        (f"{_BY_ID}/nvme-Samsung_SSD_970_EVO_500GB_S5GYNX0R123456A",),
        "All layers are on one disk. What is mounted on the top of them is shown at the partition.",
    ),
    Case(
        "raid1-root",
        (f"{_BY_ID}/ata-HGST_HUS726T4TAL_V6G00001", f"{_BY_ID}/ata-HGST_HUS726T4TAL_V6G00002"),
        "Both disks of the arrays are named. With one alone it would be refused.",
    ),
    Case(
        "raid1-lvm",
        (f"{_BY_ID}/ata-HGST_HUS726T4TAL_V6G00002",),
        "The named disk was thrown out of the array: the kernel lists it nowhere. By its signature it is still a"
        " member, and may have data that the other one lacks.",
    ),
    Case(
        "btrfs-two-disks",
        (f"{_BY_ID}/ata-Samsung_SSD_860_S3Z9NB0K100002",),
        "The kernel shows the file system as mounted from the other disk only.",
    ),
    Case(
        "bcachefs-two-disks",
        (f"{_BY_ID}/ata-Samsung_SSD_860_S3Z9NB0K100001", f"{_BY_ID}/ata-HGST_HUS726T4TAL_V6G00002"),
        "Both devices of the file system are named.",
    ),
    Case(
        "zfs-mirror",
        (f"{_BY_ID}/ata-Samsung_SSD_860_S3Z9NB0K100001", f"{_BY_ID}/ata-Samsung_SSD_860_S3Z9NB0K100002"),
        "The volumes of the virtual machines, zd0 and zd16, are part of the pool, and lost with it.",
    ),
    Case(
        "bcache",
        (f"{_BY_ID}/ata-HGST_HUS726T4TAL_V6G00001",),
        "The cache may hold what was not written to the named disk yet.",
    ),
    Case(
        "nvme-multipath",
        (f"{_BY_ID}/nvme-INTEL_SSDPD2MD800G4_CVFT5123456789",),
        "The kernel hides the two paths behind one disk.",
    ),
    Case(
        "multipath",
        (f"{_BY_ID}/wwn-0x600140512345678901234567890abcde",),
        "Two paths are one disk, which any of its names finds. In an installer without multipathd, the same world-wide"
        " ID makes them one, too.",
    ),
    Case(
        "nvme-namespaces",
        (f"{_BY_ID}/nvme-eui.0000000000000001",),
        "The serial number is the same, the world-wide IDs are not: these are two disks.",
    ),
    Case(
        "emmc",
        (f"{_BY_ID}/mmc-DF4032_0xa1b2c3d4",),
        "The boot areas are devices of their own; the firmware of many boards is there.",
    ),
    Case(
        "centos-7",
        ("/dev/sda",),
        "This lsblk knows no JSON; sysfs and blkid are enough. A virtual disk like this has no serial number.",
    ),
)
# Of every plan whose inventory pins no disk, as the head of the page says.
_UNPINNED: Final = "the inventory pins no disks"


def said(case: Case, facts: Facts) -> list[str]:
    """Return what the plan says of the disks, or why it is refused."""
    named = {f"disk{number}": device for number, device in enumerate(case.devices)}
    try:
        made = plan(facts, host(disks=[]), devices=named)
    except TargetRefused as error:
        return ["The plan is refused:", "", *_wrapped(error.message, "> "), ">", *_wrapped(f"Hint: {error.hint}", "> ")]
    lines = ["| | disk | now | serial, WWN | content |", "|---|---|---|---|---|"]
    lines += [_row("will be wiped", disk) for disk in made.wipe]
    lines += [_row("will not be touched", disk) for disk in made.keep]
    warnings = [warning for warning in made.warnings if not warning.startswith(_UNPINNED)]
    return [*lines, *(["", "It warns:", ""] if warnings else []), *(f"- {warning}" for warning in warnings)]


def _row(title: str, disk: PlannedDisk) -> str:
    ids = ", ".join(dict.fromkeys(text for text in (disk.serial, disk.wwid) if text)) or "none"
    return f"| {title} | `{disk.device}` | {disk.name} | {ids} | `{disk.content}` |"


def _wrapped(text: str, start: str = "") -> list[str]:
    return textwrap.wrap(
        text, 120, initial_indent=start, subsequent_indent=start, break_on_hyphens=False, break_long_words=False
    )


def page(folder: Path) -> str:
    """Return the page.

    Args:
        folder: an empty folder to make the layouts in.

    """
    lines = [_HEAD]
    for case in CASES:
        there = layout(case.layout)
        lines += [
            f"## {there.title}",
            "",
            *_wrapped(f"The flake names {' and '.join(f'`{device}`' for device in case.devices)}. {case.why}"),
            "",
            *said(case, there.make(folder / case.layout)),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made_in:
        PAGE.write_text(page(Path(made_in)))
