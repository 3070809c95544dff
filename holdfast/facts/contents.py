"""What lies on the disks: file systems, what they are members of, and where it is mounted."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, split_lines

# What a file system's type says about a disk that belongs to something bigger.
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
    """A partition, or a whole disk that has none.

    Attributes:
        name: the kernel's name, as `vda1`.
        size_bytes: its size.
        fstype: type of its file system or of what it is a member of; empty if nothing was found.
        label: the file system's label.
        uuid: the file system's UUID.
        mountpoints: where it, or what lies on it (LVM, crypt, RAID), is mounted; `[swap]` for swap in use.

    """

    name: str
    size_bytes: int = 0
    fstype: str = ""
    label: str = ""
    uuid: str = ""
    mountpoints: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return it in a few words."""
        member = _MEMBERS.get(self.fstype, self.fstype)
        words = [self.name, member or "unknown content", repr(self.label) if self.label else ""]
        if self.mountpoints:
            words.append(f"at {', '.join(self.mountpoints)}")
        return " ".join(word for word in words if word)


def parse_contents(said: Mapping[str, str]) -> dict[str, Partition]:
    """Return what lies on each block device, by its kernel name."""
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
            # What is mounted of an LVM volume counts for each disk below it.
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
    """Return the key of a ZFS pool among the places; no block device has such a name."""
    return f"zfs pool {name}"


def _devices(nodes: Any, depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401  parsed JSON
    """Walk lsblk's tree."""
    if isinstance(nodes, list) and depth < 8:
        for node in nodes:
            if isinstance(node, dict):
                yield _field(node, "name"), node
                yield from _devices(node.get("children"), depth + 1)


def _below(node: Mapping[str, Any]) -> list[str]:
    """Return the names of a device and of all that is made of it, but its partitions."""
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
    """Parse lines of blkid: /dev/vda1: LABEL="x" UUID="…" TYPE="ext4"."""
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
    """Return where each block device is mounted, by its name (mappers by the name under /dev/mapper), and each pool."""
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
