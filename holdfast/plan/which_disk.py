"""Tells the disks of a machine apart, by the IDs that their makers gave them."""

from typing import Final, Protocol

from holdfast.facts.disks import Disk
from holdfast.facts.facts import Facts

BY_ID: Final = "/dev/disk/by-id/"
_BY_PATH: Final = "/dev/disk/by-path/"


class HasIds(Protocol):
    """A disk of the facts or of a plan."""

    @property
    def serial(self) -> str:
        """Its serial number; empty if unknown."""

    @property
    def wwid(self) -> str:
        """Its world-wide ID; empty if it has none."""


def find_disk(facts: Facts, device: str) -> Disk | None:
    """Return the disk that a device file names: /dev/NAME, or a link under /dev/disk."""
    return next((disk for disk in facts.disks if device == disk.path or device in disk.links), None)


def same_id(disk: HasIds, other: Disk) -> bool:
    """Return whether two disks have the same ID; one system may see only one of a disk's IDs.

    The world-wide ID decides: namespaces of an NVMe disk, and LUNs, may share a serial number. Two of other forms
    (`eui.`, `naa.`, `nvme.`, …) decide nothing: another kernel may take another of a disk's names.
    """
    if disk.wwid and other.wwid and _form(disk.wwid) == _form(other.wwid):
        return disk.wwid == other.wwid
    return bool(disk.serial) and disk.serial == other.serial


def _two_serials(disk: HasIds, other: Disk) -> bool:
    """Return whether one system tells two serial numbers: some makers give a series of disks one world-wide ID."""
    return bool(disk.serial and other.serial) and disk.serial != other.serial


def _form(wwid: str) -> tuple[str, int]:
    """Return what kind of world-wide ID it is: `eui.` has 16 digits or 32."""
    kind, _, number = wwid.partition(".")
    return kind, len(number) if kind == "eui" else 0


def alike(device: str, disk: Disk, facts: Facts) -> list[Disk]:
    """Return all disks that look the same as this one, including itself."""
    sized = [other for other in facts.disks if other.size_bytes == disk.size_bytes]
    if disk.serial or disk.wwid:
        return [other for other in sized if other == disk or (same_id(disk, other) and not _two_serials(disk, other))]
    # Without a serial number, its slot still identifies it; the kernel's name does not.
    return (
        [disk]
        if device.startswith((BY_ID, _BY_PATH))
        else [other for other in sized if not other.serial and not other.wwid]
    )


def named_by_maker(disk: Disk) -> str:
    """Return how a person finds a disk: serial number, size, model."""
    return f"serial {disk.serial or 'unknown'}, {disk.size_bytes} bytes{f', {disk.model}' if disk.model else ''}"


def there_are(facts: Facts) -> str:
    """Return the disks of a machine for a message."""
    return "; ".join(f"{disk.path} ({named_by_maker(disk)})" for disk in facts.disks) or "none"
