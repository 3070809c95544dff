"""What lies on the disks of a target, as a graph: partition, array, volume, pool, file system, mount point.

Everything that may lie on several disks is a node of its own, a group: its members carry it, and what it holds lies on
it. So a file system counts as mounted on each disk of its volume group, whichever of them has its blocks.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.facts.blocks import Blocks
from holdfast.facts.bounded import MAX_ITEMS, clean, split_lines
from holdfast.facts.contents import Partition, parse_contents, parse_journals
from holdfast.facts.graph import Graph
from holdfast.facts.mounts import Mount, parse_mounts

VOLUME_GROUP: Final = "LVM volume group"
_ARRAY: Final = "RAID array"
POOL: Final = "ZFS pool"
_JOURNAL: Final = "ext4 with its journal elsewhere"
_OTHER: Final = "stacked device"
MAX_GROUPS: Final = 1024
# File systems that may have several devices, all with one UUID.
_OF_SEVERAL: Final = ("btrfs", "bcachefs")
FILE_SYSTEMS: Final = (*_OF_SEVERAL, _JOURNAL)
# What a device is, by device mapper's UUID, by lsblk's type, or by the kernel's name for it.
_KINDS: Final = {
    "CRYPT-LUKS": "LUKS",
    "CRYPT-": "dm-crypt",
    "crypt": "LUKS",
    "DMRAID-": _ARRAY,
    "raid": _ARRAY,
    "md": _ARRAY,
    "bcache": "bcache",
    "mpath": "multipath",
    "drbd": "DRBD",
    "nbd": "NBD",
    "rbd": "RBD",
}
# The UUID of a volume that LVM keeps for itself, such as `-tmeta`, is longer.
_LVM_ID: Final = len("LVM-") + 64


class Group(Frozen):
    """Something that may lie on several disks: whoever wipes one of them takes it from all.

    Attributes:
        kind: `LVM volume group`, `RAID array`, `ZFS pool`, `btrfs`, `bcachefs`, `bcache`, `LUKS`, …
        name: its own name, such as a pool's; a UUID if that is all that is known.
        disks: kernel names of the disks that it lies on, directly or through other layers.
        mountpoints: where it, or what lies on it, is mounted; `[swap]` for swap in use.

    """

    kind: str
    name: str
    disks: tuple[str, ...]
    mountpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Storage:
    """What lies on the disks.

    Attributes:
        contents: what is on each device, by kernel name.
        groups: what may lie on several disks.

    """

    contents: dict[str, Partition]
    groups: tuple[Group, ...]


def parse_storage(said: Mapping[str, str], blocks: Blocks) -> Storage:
    """Make the graph of what facts.sh says."""
    return _Builder(said, blocks).result()


class _Builder:
    """Adds what each source knows to one graph; what one source lacks another may have."""

    def __init__(self, said: Mapping[str, str], blocks: Blocks) -> None:
        self._blocks = blocks
        self._disk_of = {name: disk.name for disk in blocks.disks for name in (disk.name, *disk.parts)}
        self._graph = Graph(self._disk_of)
        self._contents, above = parse_contents(said, blocks)
        self._groups: dict[str, tuple[str, str]] = {}
        self._file_systems: dict[str, str] = {}  # by member
        self._mounted: set[str] = set()
        self._shown: dict[str, str] = {}  # names of stacked devices
        self._mounts = list(parse_mounts(said))
        self._places: dict[str, list[int]] = {}  # numbers of mounts by node
        self._add_signatures()
        self._add_told(said)
        self._volume_groups = {
            **{device.name: _volume_group(device.shown) for device in above if device.kind == "lvm"},
            **{device.name: _volume_group(device.mapped) for device in blocks.stacked if device.id.startswith("LVM-")},
        }
        for device in blocks.stacked:
            shown = "" if _is_own_of_lvm(device.id) else device.mapped or device.name
            self._add_device(device.name, device.id, device.below, shown)
        for one in above:
            if one.name not in self._disk_of:
                self._add_device(one.name, one.kind, (one.below,), self._shown.get(one.name, one.shown))
        self._add_mounts()

    def _group(self, kind: str, key: str, name: str = "") -> str:
        """Return the node of a group; no device has a name with a blank."""
        node = f"{kind} {key}"
        if name or node not in self._groups:
            self._groups[node] = (kind, name or key)
        return node

    def _add_signatures(self) -> None:
        """Add the groups that signatures tell: also those that are not active, or not mounted."""
        for name, content in self._contents.items():
            if content.fstype in _OF_SEVERAL and content.uuid:
                self._add_file_system(content.fstype, content.uuid, name, content.label)
            elif content.fstype == "zfs_member" and content.label:
                self._graph.put(self._group(POOL, content.label), name)
            elif content.fstype == "linux_raid_member" and content.uuid:
                self._graph.put(self._group(_ARRAY, content.uuid, content.label), name)

    def _add_file_system(self, kind: str, uuid: str, name: str, label: str = "") -> str:
        self._file_systems[name] = self._group(kind, uuid, label)
        self._graph.put(self._file_systems[name], name)
        return self._file_systems[name]

    def _add_told(self, said: Mapping[str, str]) -> None:
        """Add the groups that the kernel, zpool and LVM tell, with their members."""
        for line in split_lines(said["file_systems"]):
            words = line.split()
            if len(words) == 3 and words[0] in FILE_SYSTEMS:
                node = self._add_file_system(words[0], clean(words[1]), self._blocks.name(words[2]))
                self._mounted.add(node)
        for name, uuid in parse_journals(said, self._blocks):
            self._file_systems[name] = self._group(_JOURNAL, uuid)
            self._graph.put(self._file_systems[name], name)
        pool = ""
        for line in split_lines(said["pools"]):
            # rpool 928G …, then for each device a tab and /dev/sda3 928G …
            words = line.split()
            # `logs`, `cache`, `special` … head what else the pool has; those lines have no numbers.
            if words and not line[0].isspace() and set(words[1:]) != {"-"}:
                pool = self._group(POOL, clean(words[0]))
            elif pool and words and line[0].isspace() and words[0].startswith("/"):
                self._graph.put(pool, self._blocks.name(words[0]))
        for line in split_lines(said["volume_groups"]):
            words = line.split()
            if len(words) == 2 and words[0].startswith("/"):
                self._graph.put(self._group(VOLUME_GROUP, clean(words[1])), self._blocks.name(words[0]))

    def _add_device(self, name: str, kind: str, below: tuple[str, ...], shown: str) -> None:
        """Add a device that lies on others, and the group that it is, or is part of."""
        if kind == "part":
            for device in below:
                self._graph.put(name, device)
            return
        self._shown[name] = shown
        if kind == "zvol":
            node = self._group(POOL, below[0]) if below else ""
        elif name in self._volume_groups:
            node = self._group(VOLUME_GROUP, self._volume_groups[name])
        elif name.startswith("zd") and not below:
            # Without a link in /dev/zvol it can only be told where there is one pool.
            pools = [pool for pool, (of, _) in self._groups.items() if of == POOL]
            node = pools[0] if len(pools) == 1 else ""
        else:
            array = next((uuid for device in below if (uuid := self._array(device))), "")
            node = self._group(_kind(kind, name), array or name, shown) if below else ""
        if node:
            self._graph.put(name, node)
        for device in below if kind != "zvol" else ():
            # A volume may lie on others of its own group.
            same = name in self._volume_groups and self._volume_groups.get(device) == self._volume_groups[name]
            self._graph.put(name if same else node, device)

    def _array(self, member: str) -> str:
        content = self._contents.get(member)
        return content.uuid if content and content.fstype == "linux_raid_member" else ""

    def _add_mounts(self) -> None:
        lost = []
        for number, mount in enumerate(self._mounts):
            known = [node for node in self._nodes(mount) if node in self._disk_of or self._graph.below(node)]
            for node in known:
                self._places.setdefault(node, []).append(number)
            if not known and mount.kind in FILE_SYSTEMS:
                lost.append((number, mount))
        placed = set(self._places)
        for number, mount in lost:
            # Its source is /dev/root, say: it is one of those whose place is not known, so it counts for each of them.
            nodes = [node for node, (kind, _) in self._groups.items() if kind == mount.kind and node not in placed]
            for node in [node for node in nodes if node in self._mounted] or nodes:
                self._places.setdefault(node, []).append(number)

    def _nodes(self, mount: Mount) -> set[str]:
        if mount.kind == "zfs":
            return {self._group(POOL, clean(mount.source.partition("/")[0]))}
        devices = [mount.number] if self._blocks.known(mount.number) else mount.devices
        names = [self._blocks.name(device) for device in devices]
        if len(names) > 1:
            one = next((self._file_systems[name] for name in names if name in self._file_systems), "")
            one = one or self._group(mount.kind, clean(mount.source))
            for name in names:
                self._graph.put(one, name)
            return {one}
        return {self._file_systems.get(name, name) for name in names}

    def result(self) -> Storage:
        upwards = self._graph.upwards()
        places = self._graph.handed_down(self._places, MAX_ITEMS)
        # The lowest first.
        shown = [self._shown.get(node, "") for node in upwards]
        own = {node: [number] for number, node in enumerate(upwards) if shown[number]}
        carried = self._graph.handed_down(own, MAX_ITEMS)
        for node, (kind, name) in self._groups.items():
            for member in self._graph.below(node) if kind == VOLUME_GROUP else ():
                content = self._contents.get(member)
                if content and content.fstype == "LVM2_member" and not content.label:
                    self._contents[member] = content.model_copy(update={"label": name})
        mounted = {
            node: tuple(dict.fromkeys(self._mounts[number].place for number in at)) for node, at in places.items()
        }
        for name in {**self._contents, **places, **carried}:
            content = self._contents.get(name, Partition(name=name))
            on_it = tuple(shown[number] for number in carried.get(name, ()))
            update = {"mountpoints": mounted.get(name, ()), "carries": on_it}
            self._contents[name] = content.model_copy(update=update)
        return Storage(self._contents, tuple(self._found_groups(upwards, mounted))[:MAX_GROUPS])

    def _found_groups(self, upwards: list[str], mounted: Mapping[str, tuple[str, ...]]) -> Iterator[Group]:
        disks = {disk.name: 1 << number for number, disk in enumerate(self._blocks.disks)}
        bits = {name: disks[disk] for name, disk in self._disk_of.items()}
        for node in upwards:
            for below in self._graph.below(node):
                bits[node] = bits.get(node, 0) | bits.get(below, 0)
        for node, (kind, name) in self._groups.items():
            on = tuple(disk for disk, bit in disks.items() if bits.get(node, 0) & bit)
            if on:
                yield Group(kind=kind, name=name, disks=on, mountpoints=mounted.get(node, ()))


def _kind(kind: str, name: str) -> str:
    """Return what a device is, by device mapper's UUID or lsblk's type for it, or by its name."""
    return next((words for start, words in _KINDS.items() if kind.startswith(start) or name.startswith(start)), _OTHER)


def _volume_group(mapped: str) -> str:
    """Return the volume group of a volume, by device mapper's name for it: VG and volume, each `-` in them doubled."""
    match = re.match(r"((?:[^-]|--)+)-(?!-)", mapped)
    return match[1].replace("--", "-") if match else mapped


def _is_own_of_lvm(id_: str) -> bool:
    """Return whether it is a volume that LVM keeps for itself: a snapshot's changes, a thin pool's data."""
    return id_.startswith("LVM-") and len(id_) > _LVM_ID
