"""The disks of a target, as its kernel and udev see them."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, number, pairs
from holdfast.facts.contents import Partition, parse_contents

SECTOR_BYTES: Final = 512
MAX_DISKS: Final = 256
MAX_PARTITIONS: Final = 128


class Disk(Frozen):
    """A disk.

    Attributes:
        name: the kernel's name, such as `vda`; it may change at each boot.
        links: its links under /dev/disk/, as full paths.
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
        return f"/dev/{self.name}"

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


def parse_disks(said: Mapping[str, str]) -> Iterator[Disk]:
    """Parse what facts.sh says about the disks."""
    names, parts = _sysfs(said["disks"])
    content = parse_contents(said)
    links: dict[str, list[str]] = {}
    for link, name in pairs(said["disk_links"]):
        links.setdefault(name, []).append(clean(link))
    udev = dict(pairs(said["udev_serials"]))
    for name, values in list(names.items())[:MAX_DISKS]:
        own = content.get(name, Partition(name=name))
        wwid = clean(values.get("wwid", ""))
        serial = clean(values.get("serial", "")) or _ata_serial(values.get("wwid", ""))
        yield Disk(
            name=name,
            links=tuple(sorted(links.get(name, ()))[:MAX_ITEMS]),
            serial=serial or clean(udev.get(values.get("number", ""), "")),
            wwid=wwid,
            stable_id=serial or wwid,
            model=clean(values.get("model", "")),
            size_bytes=number(values.get("size", "")) * SECTOR_BYTES,
            readonly=values.get("readonly") == "1",
            removable=values.get("removable") == "1",
            content=own,
            partitions=tuple(
                content.get(part, Partition(name=part)).model_copy(update={"size_bytes": size * SECTOR_BYTES})
                for part, size in list(parts.get(name, {}).items())[:MAX_PARTITIONS]
            ),
        )


def _ata_serial(wwid: str) -> str:
    """Return the serial number in the world-wide ID of an ATA disk that has no WWN; empty if it is another one.

    The kernel prints the maker in 8 characters, the model in 40, the serial number in 20 (SAT-5, 12.4.2.4).
    """
    maker = "t10.ATA     "
    return clean(wwid[len(maker) + 40 :]) if wwid.startswith(maker) else ""


def _sysfs(text: str) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, int]]]:
    """Return the attributes of each disk, and the sizes of its partitions in sectors."""
    disks: dict[str, dict[str, str]] = {}
    parts: dict[str, dict[str, int]] = {}
    for name, rest in pairs(text):
        if not re.fullmatch(r"[A-Za-z0-9!._-]{1,64}", name):
            continue
        attribute, _, value = rest.partition(" ")
        if attribute == "partition":
            part, _, size = value.partition(" ")
            parts.setdefault(name, {})[clean(part)] = number(size)
        else:
            disks.setdefault(name, {})[attribute] = value.strip()
    # A drive without a medium has no size.
    return {name: values for name, values in disks.items() if number(values.get("size", ""))}, parts
