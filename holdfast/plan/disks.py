"""The disks of a plan: those that the disko configuration names, and those that stay as they are."""

from collections.abc import Iterable, Mapping
from typing import Final

from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.base.frozen import Frozen
from holdfast.facts.disks import Disk
from holdfast.facts.facts import Facts
from holdfast.inventory.host import DiskPin, Host

BY_ID: Final = "/dev/disk/by-id/"
_BY_PATH: Final = "/dev/disk/by-path/"
# These links of udev have only a number. One with maker and serial number tells a person more.
_NUMBERS: Final = ("wwn-", "nvme-eui.", "nvme-nvme.", "scsi-")


class DiskoDisk(Frozen):
    """A disk of the flake's disko configuration.

    Attributes:
        device: its device file.
        destroy: whether the disko script wipes it before it formats; disko's `destroy`.

    """

    device: str
    destroy: bool = True


class PlannedDisk(Frozen):
    """A disk of the plan.

    Attributes:
        device: its name in the disko configuration; for a disk that is kept, its device file.
        name: the kernel's name for it when the plan was made.
        by_id: its link in /dev/disk/by-id, as a full path; empty if it has none.
        stable_id: the ID that every system sees (see Disk); empty if it has none.
        serial: serial number, from the kernel or from udev; empty if neither knows one.
        wwid: world-wide ID; empty if it has none.
        size_bytes: its size.
        model: the maker's name of its model.
        content: what is on it.
        pinned: whether the inventory pins it with a pin that fits no other disk of the machine.
        destroy: whether the disko script wipes it before it formats (see DiskoDisk).

    """

    device: str
    name: str
    by_id: str
    stable_id: str
    wwid: str
    size_bytes: int
    model: str
    content: str
    serial: str = ""
    pinned: bool = False
    destroy: bool = True

    @property
    def named_by_id(self) -> bool:
        """Whether the configuration names the disk itself; by-path names a slot, by-label any disk with that label."""
        return self.device.startswith(BY_ID)


def plan_disks(
    devices: Mapping[str, DiskoDisk], facts: Facts, host: Host
) -> tuple[tuple[PlannedDisk, ...], tuple[PlannedDisk, ...]]:
    """Find the disks that the disko configuration names, and the others.

    Args:
        devices: the disks of the disko configuration, by its own name for each.
        facts: what was observed.
        host: the host; if it has pins, each disk to wipe must match one.

    Returns:
        The disks to wipe, in the configuration's order, and all others.

    Raises:
        TargetRefused: a disk is missing, read-only, named twice, not pinned by the inventory, or cannot be told from
            another; or a pinned disk is not in the configuration.

    """
    wipe: dict[str, tuple[str, Disk]] = {}
    for label, disko in devices.items():
        device = disko.device
        disk = find_disk(facts, device)
        if disk is None:
            raise TargetRefused(
                f"the disk {device} of the flake's disko configuration ({label}) is not on {host.name}.",
                hint=f"There are: {_there(facts)}. Correct the device in the flake.",
            )
        if disk.name in wipe:
            raise TargetRefused(
                f"{device} and {wipe[disk.name][0]} are the same disk of {host.name}.",
                hint="Give each disk of the disko configuration a device of its own.",
            )
        _check_disk(disk, device, host)
        if others := [other for other in _alike(device, disk, facts) if other != disk]:
            raise TargetRefused(
                f"{device} on {host.name} cannot be told from {others[0].path}: both are {_named(disk)}.",
                hint="Unplug the other one, or give them serial numbers of their own if the machine is virtual.",
            )
        wipe[disk.name] = (device, disk)
    for pin in host.disks:
        if not any(_matches(pin, disk) for _, disk in wipe.values()):
            raise TargetRefused(
                f"no disk of the flake's disko configuration is the one that the inventory pins: {_pin(pin)}.",
                hint=f"There are: {_there(facts)}. Correct disks in the inventory, or the device in the flake.",
            )
    kept = [disk for disk in facts.disks if disk.name not in wipe]
    return (
        tuple(_planned(device, disk, pinned=_is_pinned(disk, facts, host)) for device, disk in wipe.values()),
        tuple(_planned(disk.path, disk) for disk in kept),
    )


def same_disks(wipe: Iterable[PlannedDisk], facts: Facts) -> None:
    """Find the disks of the plan again, by their makers' IDs: names may change at each boot.

    Each must be the disk at the device that the disko script writes to.

    Raises:
        UnexpectedState: a disk is missing, has another size, is read-only or cannot be told from another; or its
            device is now another disk. The message says which device the disk is now.

    """
    for planned in wipe:
        what = f"{_said(planned)}, which the plan would wipe as {planned.device}"
        found = _found_again(planned, what, facts)
        if found.readonly:
            raise UnexpectedState(f"{what}, is read-only in the installer.", hint="Unlock it, then retry the run.")
        there = find_disk(facts, planned.device)
        if there != found:
            now = f"{planned.device} is {_named(there)} there" if there else f"there is no {planned.device}"
            raise UnexpectedState(
                f"{what}, is {found.path} in the installer, and {now}; nothing was formatted.",
                hint="Name the disk by /dev/disk/by-id in the flake.",
            )


def kept_disks(wipe: Iterable[PlannedDisk], facts: Facts) -> tuple[str, ...]:
    """Return the device files of the disks in the installer that the plan does not wipe (after same_disks)."""
    wiped = {disk.name for planned in wipe if (disk := find_disk(facts, planned.device))}
    return tuple(disk.path for disk in facts.disks if disk.name not in wiped)


def _found_again(planned: PlannedDisk, what: str, facts: Facts) -> Disk:
    """Return the one disk that is a disk of the plan."""
    if not planned.serial and not planned.wwid:
        # Only its device and size are known. A system with udev may see a serial number that one without does not.
        there = find_disk(facts, planned.device)
        like = [there] if there and not there.stable_id else []
    else:
        like = [disk for disk in facts.disks if _same_id(planned, disk)]
    if not like:
        raise UnexpectedState(
            f"{what}, is not in the installer; nothing was formatted. There are: {_there(facts)}.",
            hint="The image may lack its driver, or the disk was taken out.",
        )
    sized = [disk for disk in like if disk.size_bytes == planned.size_bytes]
    if not sized:
        other = "larger" if like[0].size_bytes > planned.size_bytes else "smaller"
        raise UnexpectedState(
            f"{what}, is {other} in the installer than in the plan: {like[0].path} has {like[0].size_bytes} bytes,"
            f" the plan says {planned.size_bytes}; nothing was formatted.",
            hint="Find out which disk that is; a new run makes a new plan.",
        )
    alike = [*sized, *(disk for disk in _alike(planned.device, sized[0], facts) if disk not in sized)]
    if len(alike) > 1:
        raise UnexpectedState(
            f"{what}, cannot be told from others in the installer: {', '.join(disk.path for disk in alike)} have the"
            " same serial number and size; nothing was formatted.",
            hint="Unplug the other one, then retry the run.",
        )
    return sized[0]


def _same_id(disk: PlannedDisk | Disk, other: Disk) -> bool:
    """Return whether two disks have the same ID; one system may see only one of a disk's IDs.

    The world-wide ID decides: namespaces of an NVMe disk, and LUNs, may share a serial number. Two of other forms
    (`eui.`, `naa.`, `nvme.`, …) decide nothing: another kernel may take another of a disk's names.
    """
    if disk.wwid and other.wwid and _form(disk.wwid) == _form(other.wwid):
        return disk.wwid == other.wwid
    return bool(disk.serial) and disk.serial == other.serial


def _form(wwid: str) -> tuple[str, int]:
    """Return what kind of world-wide ID it is: `eui.` has 16 digits or 32."""
    kind, _, number = wwid.partition(".")
    return kind, len(number) if kind == "eui" else 0


def _alike(device: str, disk: Disk, facts: Facts) -> list[Disk]:
    """Return all disks that look the same as this one, including itself."""
    sized = [other for other in facts.disks if other.size_bytes == disk.size_bytes]
    if disk.serial or disk.wwid:
        return [other for other in sized if other == disk or _same_id(disk, other)]
    # Without a serial number, its slot still identifies it; the kernel's name does not.
    return (
        [disk]
        if device.startswith((BY_ID, _BY_PATH))
        else [other for other in sized if not other.serial and not other.wwid]
    )


def find_disk(facts: Facts, device: str) -> Disk | None:
    """Return the disk that a device file names: /dev/NAME, or a link under /dev/disk."""
    return next((disk for disk in facts.disks if device == disk.path or device in disk.links), None)


def _check_disk(disk: Disk, device: str, host: Host) -> None:
    if disk.readonly:
        raise TargetRefused(
            f"the disk {device} of {host.name} is read-only.", hint="Unlock it, or name another one in the flake."
        )
    if host.disks and not any(_matches(pin, disk) for pin in host.disks):
        pinned = "; ".join(_pin(pin) for pin in host.disks)
        raise TargetRefused(
            f"{device} on {host.name} is {_named(disk)}, which the inventory does not allow to wipe ({pinned}).",
            hint="Correct disks in the inventory, or the device in the flake.",
        )


def _matches(pin: DiskPin, disk: Disk) -> bool:
    return (
        (pin.serial is None or pin.serial == disk.serial)
        and (pin.by_id is None or pin.by_id in disk.by_id)
        and (pin.size_bytes is None or pin.size_bytes == disk.size_bytes)
    )


def _pin(pin: DiskPin) -> str:
    said = pin.model_dump(exclude_none=True)
    return ", ".join(f"{key} {value}" for key, value in said.items())


def _named(disk: Disk) -> str:
    return f"serial {disk.serial or 'unknown'}, {disk.size_bytes} bytes{f', {disk.model}' if disk.model else ''}"


def _there(facts: Facts) -> str:
    return "; ".join(f"{disk.path} ({_named(disk)})" for disk in facts.disks) or "none"


def _said(planned: PlannedDisk) -> str:
    return f"the disk {planned.serial or planned.wwid or 'without a serial number'} ({planned.size_bytes} bytes)"


def _is_pinned(disk: Disk, facts: Facts, host: Host) -> bool:
    return any([disk] == [other for other in facts.disks if _matches(pin, other)] for pin in host.disks)


def _planned(device: str, disk: Disk, *, pinned: bool = False) -> PlannedDisk:
    links = sorted(disk.by_id, key=lambda name: (name.startswith(_NUMBERS), name))
    own = device if device.startswith(BY_ID) else ""
    return PlannedDisk(
        device=device,
        name=disk.name,
        by_id=own or (f"{BY_ID}{links[0]}" if links else ""),
        stable_id=disk.stable_id,
        serial=disk.serial,
        wwid=disk.wwid,
        size_bytes=disk.size_bytes,
        model=disk.model,
        content=disk.describe_content(),
        pinned=pinned,
    )
