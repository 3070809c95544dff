"""What is on the disks: file systems and members of pools or volumes, and where they are mounted."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, split_lines

# File system types of disks that are part of something larger.
_MEMBERS: Final = {
    "zfs_member": "ZFS",
    "LVM2_member": "LVM",
    "linux_raid_member": "RAID",
    "isw_raid_member": "RAID",
    "ddf_raid_member": "RAID",
    "crypto_LUKS": "LUKS",
    "bcache": "bcache",
}


class Partition(Frozen):
    """A partition, or a whole disk without partitions.

    Attributes:
        name: the kernel's name, such as `vda1`.
        size_bytes: its size.
        fstype: type of its file system, or of the pool or volume it is part of; empty if unknown.
        label: the file system's label.
        uuid: the file system's UUID.
        mountpoints: where it, or a device on top of it (LVM, crypt, RAID), is mounted; `[swap]` for swap in use.

    """

    name: str
    size_bytes: int = 0
    fstype: str = ""
    label: str = ""
    uuid: str = ""
    mountpoints: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return a description of a few words."""
        member = _MEMBERS.get(self.fstype, self.fstype)
        words = [self.name, member or "unknown content", repr(self.label) if self.label else ""]
        if self.mountpoints:
            words.append(f"at {', '.join(self.mountpoints)}")
        return " ".join(word for word in words if word)


def parse_contents(said: Mapping[str, str]) -> dict[str, Partition]:
    """Return what is on each block device, by kernel name."""
    found = _blkid(said["blkid"])
    places = _places(said)
    try:
        tree = json.loads(said["lsblk"] or "{}")
    except (ValueError, RecursionError):
        tree = {}
    devices = tree.get("blockdevices") if isinstance(tree, dict) else None
    for name, node in _devices(devices):
        seen = found.get(name, Partition(name=name))
        found[name] = Partition(
            name=name,
            fstype=_field(node, "fstype") or seen.fstype,
            label=_field(node, "label") or seen.label,
            uuid=_field(node, "uuid") or seen.uuid,
            # A mounted LVM volume counts for each disk below it.
            mountpoints=tuple(dict.fromkeys(place for below in _below(node) for place in places.get(below, ()))),
        )
    for name, mounted in places.items():
        if name not in found or not found[name].mountpoints:
            found[name] = found.get(name, Partition(name=name)).model_copy(update={"mountpoints": tuple(mounted)})
    for name, member in found.items():
        if member.fstype == "zfs_member" and (of_pool := places.get(_pool(member.label))):
            found[name] = member.model_copy(update={"mountpoints": tuple(of_pool)})
    return found


def _pool(name: str) -> str:
    """Return the key of a ZFS pool in `places`; no block device has such a name."""
    return f"zfs pool {name}"


def _devices(nodes: Any, depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401  parsed JSON
    """Walk lsblk's tree."""
    if isinstance(nodes, list) and depth < 8:
        for node in nodes:
            if isinstance(node, dict):
                yield _field(node, "name"), node
                yield from _devices(node.get("children"), depth + 1)


def _below(node: Mapping[str, Any]) -> list[str]:
    """Return the names of a device and of all devices on top of it, except its partitions."""
    names = [_field(node, "name")]
    children = node.get("children")
    for child in children if isinstance(children, list) else []:
        if isinstance(child, dict) and _field(child, "type") != "part":
            names += [_field(child, "name"), *(name for name, _ in _devices(child.get("children")))]
    return names


def _field(node: Mapping[str, Any], key: str) -> str:
    value = node.get(key)
    return clean(value) if isinstance(value, str) else ""


def _blkid(text: str) -> dict[str, Partition]:
    """Parse the lines of blkid: /dev/vda1: LABEL="x" UUID="…" TYPE="ext4"."""
    found = {}
    for line in split_lines(text):
        device, _, rest = line.partition(": ")
        tags = dict(re.findall(r'(?:^| )([A-Z_]+)="([^"]*)"', rest))
        name = device.rpartition("/")[2]
        found[name] = Partition(
            name=clean(name),
            fstype=clean(tags.get("TYPE", "")),
            label=clean(tags.get("LABEL", "")),
            uuid=clean(tags.get("UUID", "")),
        )
    return found


def _places(said: Mapping[str, str]) -> dict[str, list[str]]:
    """Return where each block device and each pool is mounted, by name (a mapper's is the one under /dev/mapper)."""
    numbers = _numbers(said["disks"])
    places: dict[str, list[str]] = {}
    for line in split_lines(said["mountinfo"]):
        # 27 1 254:1 / /mnt rw - ext4 /dev/vda1 rw     (proc(5), mountinfo)
        before, _, after = line.partition(" - ")
        fields, source = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(source) < 2:
            continue
        pool = _pool(clean(source[1].partition("/")[0])) if source[0] == "zfs" else ""
        name = pool or numbers.get(fields[2]) or source[1].rpartition("/")[2]
        _add(places, name, clean(fields[4]))
    for line in split_lines(said["swaps"])[1:]:
        _add(places, line.split()[0].rpartition("/")[2] if line.split() else "", "[swap]")
    return places


def _numbers(text: str) -> dict[str, str]:
    """Return the names of disks and partitions by MAJOR:MINOR."""
    numbers = {}
    for line in split_lines(text):
        words: Sequence[str] = line.split()
        if len(words) == 3 and words[1] == "number":
            numbers[words[2]] = words[0]
        if len(words) == 5 and words[1] == "partition":
            numbers[words[4]] = words[2]
    return numbers


def _add(places: dict[str, list[str]], name: str, place: str) -> None:
    mounted = places.setdefault(name, [])
    if place not in mounted and len(mounted) < MAX_ITEMS:
        mounted.append(place)
