"""The block devices of a target, as sysfs lists them: disks with their partitions, and what is stacked on them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from holdfast.facts.bounded import MAX_ITEMS, clean, number, pairs, split_lines

MAX_DISKS: Final = 256
MAX_PATHS: Final = 4 * MAX_DISKS
MAX_PARTITIONS: Final = 128
MAX_STACKED: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9!._-]{1,64}")
_MULTIPATH: Final = "mpath-"
# World-wide IDs that a maker gives once. The others are made of words that two disks may share.
_GIVEN_ONCE: Final = ("naa.", "eui.", "uuid.")


def device_file(name: str) -> str:
    """Return the device file of a kernel name, where `!` stands for a slash."""
    return f"/dev/{name.replace('!', '/')}"


@dataclass(slots=True)
class Block:
    """A disk.

    Attributes:
        name: the kernel's name.
        values: what sysfs says of it: `size` in sectors, `number`, `serial`, `wwid`, …
        parts: its partitions: name and size in sectors.
        paths: the kernel's names of the paths to it, if it has several.

    """

    name: str
    values: dict[str, str] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stacked:
    """A device that is no disk: what it holds lies on others.

    Attributes:
        name: the kernel's name.
        sectors: its size in sectors of 512 bytes.
        below: the kernel's names of what it lies on; for a volume of ZFS, the pool.
        id: device mapper's UUID for it, `part` for a partition, `zvol` for a volume of ZFS; else empty.
        mapped: device mapper's name for it, as `vg-root`; else empty.

    """

    name: str
    sectors: int
    below: tuple[str, ...]
    id: str
    mapped: str


class Blocks:
    """All block devices, and the names that they go by.

    Attributes:
        disks: the disks; several paths to one disk are one.
        stacked: the other devices.

    """

    def __init__(self, said: Mapping[str, str]) -> None:
        """Parse what facts.sh says (`disks`, `stacked`, `disk_links`, `udev_serials`)."""
        self._udev = dict(pairs(said["udev_serials"]))
        self._numbers: dict[str, str] = {}
        self._mapped: dict[str, str] = {}
        self._links = {link: name for link, name in pairs(said["disk_links"]) if _NAME.fullmatch(name)}
        self._other: dict[str, str] = {}
        self._kernels: set[str] = set()
        self.stacked = self._parse_stacked(said["stacked"])
        found = self._parse_disks(said["disks"])
        self._kernels.update(found, *(disk.parts for disk in found.values()), (one.name for one in self.stacked))
        self._join_maps(found)
        self._join_twins(found)
        self.disks = list(found.values())[:MAX_DISKS]

    def name(self, device: str) -> str:
        """Return the kernel's name for a device, or for the disk that it is a path to.

        Args:
            device: a device file, a name of the kernel or of device mapper, or MAJOR:MINOR.

        """
        found = self._numbers.get(device) or self._links.get(device)
        if not found:
            name = device.removeprefix("/dev/")
            found = clean(name.removeprefix("mapper/").replace("/", "!"))
            if name != found or found not in self._kernels:
                # /dev/vg-1/root is /dev/mapper/vg--1-root.
                volume = "-".join(part.replace("-", "--") for part in name.split("/"))
                found = self._mapped.get(found) or self._mapped.get(volume) or found
        return self._other.get(found, found)

    def files(self, disk: Block) -> tuple[str, ...]:
        """Return the device files of a disk's paths, and of the map that joins them; empty if it has only one path."""
        maps = [f"/dev/mapper/{mapped}" for mapped, name in self._mapped.items() if name == disk.name]
        return (*maps, *(device_file(path) for path in disk.paths))

    def serial(self, disk: Block) -> str:
        """Return a disk's serial number, from the kernel or else from udev; empty if neither knows one."""
        return disk.values.get("serial", "") or self._udev.get(disk.values.get("number", ""), "")

    def known(self, number_: str) -> bool:
        """Return whether some device has these numbers, MAJOR:MINOR."""
        return number_ in self._numbers

    def _parse_disks(self, text: str) -> dict[str, Block]:
        found: dict[str, Block] = {}
        for name, rest in pairs(text):
            if not _NAME.fullmatch(name) or (name not in found and len(found) >= MAX_PATHS):
                continue
            disk = found.setdefault(name, Block(name))
            attribute, _, value = rest.partition(" ")
            words = value.split()
            if attribute != "partition":
                disk.values[attribute] = value.strip()
            elif words and _NAME.fullmatch(words[0]) and len(disk.parts) < MAX_PARTITIONS:
                disk.parts[words[0]] = number(words[1]) if len(words) > 1 else 0
                if len(words) > 2:
                    self._numbers[words[2]] = words[0]
        # A drive without a medium has no size.
        found = {name: disk for name, disk in found.items() if number(disk.values.get("size", ""))}
        self._numbers |= {number_: disk.name for disk in found.values() if (number_ := disk.values.get("number", ""))}
        return found

    def _parse_stacked(self, text: str) -> list[Stacked]:
        found = []
        for line in split_lines(text)[:MAX_STACKED]:
            words = [("" if word == "-" else word) for word in line.split(" ", 5)]
            if len(words) < 6 or not _NAME.fullmatch(words[0]):
                continue
            name, number_, size, below, id_, mapped = words
            on = tuple(one for one in below.split(",") if _NAME.fullmatch(one))[:MAX_DISKS]
            found.append(Stacked(name, number(size), on, clean(id_), clean(mapped)))
            if number_:
                self._numbers[number_] = name
            if mapped:
                self._mapped[clean(mapped)] = name
        return found

    def _join_maps(self, disks: dict[str, Block]) -> None:
        """Make one disk of the paths that device mapper's multipath has joined; its partitions are maps as well."""
        for device in self.stacked:
            paths = [path for path in device.below if path in disks]
            if not device.id.startswith(_MULTIPATH) or not paths or device.name in disks:
                continue
            parts = {
                part.name: (_last_number(part.id.partition("-")[0]), part.sectors)
                for part in self.stacked
                if device.name in part.below and part.id.startswith("part")
            }
            self._join(disks, device.name, [disks.pop(path) for path in paths], parts)
        self.stacked = [
            device for device in self.stacked if device.name not in disks and not self._is_part(device, disks)
        ]

    def _join_twins(self, disks: dict[str, Block]) -> None:
        """Make one disk of several with the same world-wide ID that differ in nothing: paths that nobody has joined."""
        alike: dict[tuple[object, ...], list[Block]] = {}
        for disk in disks.values():
            if not disk.paths and disk.values.get("wwid", "").startswith(_GIVEN_ONCE):
                # Some makers give a whole series of disks one ID: udev may know their serial numbers.
                values = (disk.values.get(key, "") for key in ("wwid", "size", "model"))
                same = (*values, self.serial(disk), *disk.parts.values())
                alike.setdefault(same, []).append(disk)
        for twins in alike.values():
            if len(twins) > 1:
                for twin in twins:
                    del disks[twin.name]
                self._join(disks, twins[0].name, twins, {})

    def _join(self, disks: dict[str, Block], name: str, paths: list[Block], maps: dict[str, tuple[int, int]]) -> None:
        """Put one disk in the place of its paths. Their names, and their partitions' names, become its other names."""
        by_number = {number_: part for part, (number_, _) in maps.items()}
        parts = {part: size for part, (_, size) in maps.items()}
        for path in paths:
            for part, size in path.parts.items():
                first = by_number.setdefault(_last_number(part), part)
                parts.setdefault(first, size)
                if first != part:
                    self._other[part] = first
            if path.name != name:
                self._other[path.name] = name
        read_only = all(path.values.get("readonly") == "1" for path in paths)
        values = paths[0].values | {"readonly": "1" if read_only else "0"}
        disks[name] = Block(name, values, parts, tuple(path.name for path in paths[:MAX_ITEMS]))

    @staticmethod
    def _is_part(device: Stacked, disks: Mapping[str, Block]) -> bool:
        return any(device.name in disks[below].parts for below in device.below if below in disks)


def _last_number(name: str) -> int:
    match = re.search(r"\d{1,9}$", name, re.ASCII)
    return int(match[0]) if match else 0
