"""The disks of a target, as its kernel and udev see them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.facts.blocks import Block, Blocks, device_file
from holdfast.facts.bounded import MAX_ITEMS, clean, number, pairs
from holdfast.facts.contents import Partition
from holdfast.facts.health import is_failing, parse_health
from holdfast.facts.storage import Group, parse_storage

SECTOR_BYTES: Final = 512
MAX_SHOWN: Final = 8


class Disk(Frozen):
    """A disk.

    Attributes:
        name: the kernel's name, such as `vda`; it may change at each boot.
        paths: the kernel's names of its paths, if it has several and no driver hides them.
        links: its links under /dev/disk/, as full paths; if it has several paths, also their device files.
        serial: its serial number, from the kernel or from udev; empty if neither knows one.
        wwid: its world-wide ID; empty if it has none.
        stable_id: the ID that every system sees, with udev or without: the serial number that the kernel tells, else
            the world-wide ID; empty if it has neither.
        model: the maker's name of its model.
        size_bytes: its size.
        readonly: whether the kernel refuses to write to it.
        removable: whether it is a USB stick, a card or similar.
        content: file system or membership of the disk itself, not of its partitions.
        partitions: its partitions.
        health: what the disk says of itself: `passed`, or `failing: ` and why; empty if unknown.

    """

    name: str
    paths: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    serial: str = ""
    wwid: str = ""
    stable_id: str = ""
    model: str = ""
    size_bytes: int
    readonly: bool = False
    removable: bool = False
    content: Partition
    partitions: tuple[Partition, ...] = ()
    health: str = ""

    @property
    def path(self) -> str:
        """The device file."""
        return device_file(self.name)

    @property
    def by_id(self) -> tuple[str, ...]:
        """The names of its links in /dev/disk/by-id."""
        start = "/dev/disk/by-id/"
        return tuple(link.removeprefix(start) for link in self.links if link.startswith(start))

    @property
    def mountpoints(self) -> tuple[str, ...]:
        """Where its content and its partitions are mounted."""
        places = [place for part in (self.content, *self.partitions) for place in part.mountpoints]
        return tuple(dict.fromkeys(places))

    def describe_content(self) -> str:
        """Return a short description of what is on it."""
        # A disk with partitions can be a member too (firmware RAID).
        own = [self.content] if self.content.fstype or self.content.mountpoints else []
        return "; ".join(part.describe() for part in (*own, *self.partitions)) or "empty, or unknown content"


def parse_disks(said: Mapping[str, str]) -> tuple[tuple[Disk, ...], tuple[Group, ...]]:
    """Parse what facts.sh says of the disks, and of what may lie on several of them."""
    blocks = Blocks(said)
    storage = parse_storage(said, blocks)
    links: dict[str, list[str]] = {}
    for link, name in pairs(said["disk_links"]):
        links.setdefault(blocks.name(name), []).append(clean(link))
    health = parse_health(said["health"])
    disks = tuple(
        _disk(
            block,
            storage.contents,
            (*blocks.files(block), *links.get(block.name, ())),
            clean(blocks.serial(block)),
            health,
        )
        for block in blocks.disks
    )
    return disks, storage.groups


def parse_untold(said: Mapping[str, str], disks: Sequence[Disk]) -> tuple[str, ...]:
    """Return what nobody on the machine tells of its disks, a sentence for each.

    A machine may lack lsblk, blkid or pvs; then the kernel tells only what is in use. What is unknown is not empty.

    Args:
        said: what facts.sh says.
        disks: its disks.

    """
    parts = [part for disk in disks for part in (disk.content, *disk.partitions)]
    if disks and not said["blkid"].strip() and not any(part.fstype for part in parts):
        return (
            "the machine has neither lsblk nor blkid that tells what is on its disks: only what is in use is known, and"
            " a disk of which the plan says nothing need not be empty",
        )
    members = [part.name for part in parts if part.fstype == "LVM2_member" and not part.label]
    if members and len(disks) > 1 and not said["volume_groups"].strip():
        return (
            f"the machine has no pvs that tells which LVM volume group has {', '.join(members[:MAX_SHOWN])}: it"
            " may have parts on other disks",
        )
    return ()


def _disk(
    block: Block,
    contents: Mapping[str, Partition],
    links: Iterable[str],
    told: str,
    health: Mapping[str, str],
) -> Disk:
    values = block.values
    wwid = clean(values.get("wwid", ""))
    serial = clean(values.get("serial", "")) or _ata_serial(values.get("wwid", ""))
    said = [health.get(name, "") for name in (block.name, *block.paths)]
    return Disk(
        name=block.name,
        paths=block.paths,
        links=tuple(sorted(links)[:MAX_ITEMS]),
        serial=serial or told,
        wwid=wwid,
        stable_id=serial or wwid,
        model=clean(values.get("model", "")),
        size_bytes=number(values.get("size", "")) * SECTOR_BYTES,
        readonly=values.get("readonly") == "1",
        removable=values.get("removable") == "1",
        content=contents.get(block.name, Partition(name=block.name)),
        partitions=tuple(
            contents.get(part, Partition(name=part)).model_copy(update={"size_bytes": size * SECTOR_BYTES})
            for part, size in block.parts.items()
        ),
        health=max(said, key=lambda text: (is_failing(text), bool(text))),
    )


def _ata_serial(wwid: str) -> str:
    """Return the serial number in the world-wide ID of an ATA disk that has no WWN; empty if it is another one.

    The kernel prints the maker in 8 characters, the model in 40, the serial number in 20 (SAT-5, 12.4.2.4).
    """
    maker = "t10.ATA     "
    return clean(wwid[len(maker) + 40 :]) if wwid.startswith(maker) else ""
