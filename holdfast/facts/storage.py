"""What lies on several disks of a target, or between a disk and its file systems."""

from holdfast.base.frozen import Frozen


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
