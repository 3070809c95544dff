"""What holdfast/nixcli/layout.nix answers: where disko mounts file systems, and what each lies on."""

import re
from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from holdfast.base.frozen import Frozen
from holdfast.base.size import MIB
from holdfast.plan.answers import FilePath, Text, Texts

SECTOR_BYTES: Final = 512
# Of sgdisk(8), lvcreate(8) and zfs(8), and of parted (its manual, `unit`), which means powers of ten without the `i`.
_BINARY: Final = {unit: 1024**power for power, unit in enumerate("BKMGTP")}
_DECIMAL: Final = {unit: 1000**power for power, unit in enumerate("BKMGTP")}
_AMOUNT: Final = re.compile(r"([0-9]{1,15})(?:\.[0-9]{1,9})?\s*([A-Za-z]{0,3})")
# Where the first partition begins, unless the configuration says where.
_FIRST_BYTE: Final = MIB


class Volume(Frozen):
    """The partition or volume that a file system lies on, in the words of the program that makes it.

    Attributes:
        by: that program; empty for a whole disk or array.
        table: `gpt` or `msdos` for a partition, else empty.
        number: the partition's number.
        esp: whether it is marked as an EFI system partition.
        logical: whether it is no primary partition.
        start, end, size: where it begins and ends, and how large it is; empty where the configuration does not say.

    """

    by: Literal["", "sgdisk", "parted", "lvm", "zfs"] = ""
    table: Text = ""
    number: Annotated[int, Field(ge=1, le=1000)] | None = None
    esp: bool = False
    logical: bool = False
    start: Text = ""
    end: Text = ""
    size: Text = ""

    @property
    def takes_rest(self) -> bool:
        """Whether it takes what others leave of its disk or group: then the configuration alone says no size."""
        if self.by == "sgdisk":
            return self.end.startswith("-") or (not self.end and self.size in ("", "100%"))
        return "%" in (self.end if self.by == "parted" else self.size) or not self.by

    @property
    def size_bytes(self) -> int | None:
        """Its size; None if it takes the rest, or if the configuration does not say it plainly enough."""
        if self.takes_rest:
            return None
        if self.by == "sgdisk":
            return _of_sgdisk(self)
        if self.by == "parted":
            start, end = _amount(self.start, _DECIMAL, 1000**2), _amount(self.end, _DECIMAL, 1000**2)
            return end - start if start is not None and end is not None and end > start else None
        return _amount(self.size, _BINARY, MIB if self.by == "lvm" else 1)


class Raid(Frozen):
    """An array of mdadm: its level, and the format of its superblock, both as the configuration writes them."""

    level: Text
    metadata: Text

    @property
    def shows_file_system(self) -> bool:
        """Whether each member looks like the file system itself to a firmware: a mirror, superblock at the end."""
        return self.level in ("1", "raid1", "mirror") and self.metadata in ("0", "0.90", "1.0")


class Mount(Frozen):
    """A file system that disko mounts.

    Attributes:
        place: where, in the final system.
        type: its type, as in `mount -t`.
        layers: what it lies on, from the disk up: `partition`, `mdadm`, `luks`, `lvm`, `lvm-thin`, `zfs`.
        disks: disko's names of the disks.
        encrypted: whether LUKS, ZFS or bcachefs encrypts it.
        raid: the topmost array below it.
        volume: the nearest partition or volume below it, of the first one if there are several.

    """

    place: FilePath
    type: Text
    layers: Texts = ()
    disks: Texts = ()
    encrypted: bool = False
    raid: Raid | None = None
    volume: Volume = Volume()


class Layout(Frozen):
    """All that disko mounts."""

    mounts: Annotated[tuple[Mount, ...], Field(max_length=1000)]

    def at(self, place: str) -> Mount | None:
        """Return what is mounted at a place."""
        return next((mount for mount in self.mounts if (mount.place.rstrip("/") or "/") == place), None)


def parse_layout(said: JsonValue) -> Layout | None:
    """Parse what layout.nix answered; None if it could not read the configuration, or answered something else.

    No install depends on it, so an unexpected answer is not an error.
    """
    try:
        return Layout(mounts=_MOUNTS.validate_python(said))
    except ValidationError:
        return None


_MOUNTS: Final = TypeAdapter(tuple[Mount, ...])


def _of_sgdisk(volume: Volume) -> int | None:
    if not volume.end or volume.end.startswith("+"):
        return _amount(volume.end.removeprefix("+") or volume.size, _BINARY, SECTOR_BYTES)
    # An end that is a place: what comes before the partition is known only for the first one.
    end = _amount(volume.end, _BINARY, SECTOR_BYTES)
    start = _amount(volume.start, _BINARY, SECTOR_BYTES)
    if start is None and not volume.start and volume.number == 1:
        start = _FIRST_BYTE
    return end - start if start is not None and end is not None and end > start else None


def _amount(text: str, units: dict[str, int], bare: int) -> int | None:
    """Return an amount in bytes.

    Args:
        text: such as `500M`, `1.5GiB` or `2048s`.
        units: what a letter alone stands for.
        bare: what a number without a letter counts.

    """
    found = _AMOUNT.fullmatch(text.strip())
    if not found:
        return None
    unit = found[2].upper()
    if not unit or unit == "S":
        each = bare if not unit else SECTOR_BYTES
    elif unit.endswith("IB"):
        each = _BINARY.get(unit[0], 0)
    else:
        each = units.get(unit[0], 0) if unit[1:] in ("", "B") else 0
    return int(float(text.strip()[: len(text.strip()) - len(found[2])]) * each) or None
