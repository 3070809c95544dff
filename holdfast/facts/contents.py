"""What is on block devices by their signatures: file systems, and members of pools, arrays or volume groups."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from holdfast.base.frozen import Frozen
from holdfast.facts.blocks import Blocks
from holdfast.facts.bounded import clean, split_lines

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
# What udev says of a path to a disk that multipath has taken: nothing of what is on the disk.
_NOTHING: Final = "mpath_member"
_SHOWN: Final = 4


class Partition(Frozen):
    """A partition, or a whole disk without partitions.

    Attributes:
        name: the kernel's name, such as `vda1`.
        size_bytes: its size.
        fstype: type of its file system, or of the pool or volume it is part of; empty if unknown.
        label: the file system's label, or the name of the pool or volume group that it is part of.
        uuid: the file system's UUID; members of one array, btrfs or bcachefs have the same.
        carries: names of the devices on top of it: volumes of LVM and ZFS, arrays, opened LUKS, …
        mountpoints: where it, or what lies on it, is mounted; `[swap]` for swap in use. What is part of a group (a
            pool, a volume group, …) counts as mounted where any of the group is.

    """

    name: str
    size_bytes: int = 0
    fstype: str = ""
    label: str = ""
    uuid: str = ""
    carries: tuple[str, ...] = ()
    mountpoints: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return a description of a few words."""
        member = _MEMBERS.get(self.fstype, self.fstype)
        words = [self.name, member or "unknown content", repr(self.label) if self.label else ""]
        if self.carries:
            more = f" and {len(self.carries) - _SHOWN} more" if len(self.carries) > _SHOWN else ""
            words.append(f"with {', '.join(self.carries[:_SHOWN])}{more}")
        if self.mountpoints:
            words.append(f"at {', '.join(self.mountpoints)}")
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True)
class Above:
    """That a device lies on another, as lsblk says.

    Attributes:
        name: the kernel's name of the device.
        below: that of the one that it lies on.
        kind: lsblk's type: `lvm`, `crypt`, `raid1`, …
        shown: lsblk's name for it; device mapper's if it has one.

    """

    name: str
    below: str
    kind: str
    shown: str


def parse_contents(said: Mapping[str, str], blocks: Blocks) -> tuple[dict[str, Partition], list[Above]]:
    """Return what is on each block device, by kernel name, and which lies on which.

    lsblk has udev's answers; blkid adds what they lack. An old lsblk without JSON says nothing: the rest is enough.
    """
    found: dict[str, Partition] = {}
    above = []
    try:
        tree = json.loads(said["lsblk"] or "{}")
    except (ValueError, RecursionError):
        tree = {}
    for below, node in _devices(tree.get("blockdevices") if isinstance(tree, dict) else None):
        name = _name(node, blocks)
        _add(found, name, {key: _field(node, key) for key in ("fstype", "label", "uuid")})
        if below is not None:
            above.append(Above(name, _name(below, blocks), _field(node, "type"), _field(node, "name")))
    for line in split_lines(said["blkid"]):
        # /dev/vda1: LABEL="x" UUID="…" TYPE="ext4"
        device, _, rest = line.partition(": ")
        tags = {key: clean(value) for key, value in re.findall(r'(?:^| )([A-Z_]+)="([^"]*)"', rest)}
        values = {"fstype": tags.get("TYPE", ""), "label": tags.get("LABEL", ""), "uuid": tags.get("UUID", "")}
        _add(found, blocks.name(device), values)
    return found, above


def parse_journals(said: Mapping[str, str], blocks: Blocks) -> Iterator[tuple[str, str]]:
    """Return each device that is, or uses, the journal of an ext4 elsewhere, and the journal's UUID (blkid's tags)."""
    for line in split_lines(said["blkid"]):
        device, _, rest = line.partition(": ")
        if match := re.search(r'(?:^| )(?:EXT_JOURNAL|LOGUUID)="([^"]+)"', rest):
            yield blocks.name(device), clean(match[1])


def _name(node: Mapping[str, Any], blocks: Blocks) -> str:
    return blocks.name(_field(node, "kname") or _field(node, "name"))


def _add(found: dict[str, Partition], name: str, values: dict[str, str]) -> None:
    """Add what was not known yet."""
    if values["fstype"] != _NOTHING:
        seen = found.get(name, Partition(name=name))
        found[name] = seen.model_copy(update={key: getattr(seen, key) or value for key, value in values.items()})


def _devices(
    nodes: Any,  # noqa: ANN401  parsed JSON
    below: Mapping[str, Any] | None = None,
    depth: int = 0,
) -> Iterator[tuple[Mapping[str, Any] | None, Mapping[str, Any]]]:
    """Walk lsblk's tree: each device, and the one that it lies on."""
    if isinstance(nodes, list) and depth < 16:
        for node in nodes:
            if isinstance(node, dict):
                yield below, node
                yield from _devices(node.get("children"), node, depth + 1)


def _field(node: Mapping[str, Any], key: str) -> str:
    value = node.get(key)
    return clean(value) if isinstance(value, str) else ""
