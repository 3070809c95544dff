"""The disks of a plan: those that the disko configuration names, and those that are left alone."""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from tasks.model.errors import TargetRefused, UnexpectedState
from tasks.model.facts import Disk, Facts
from tasks.model.host import DiskPin, Host


class PlannedDisk(BaseModel):
    """A disk of the plan.

    Attributes:
        device: as the disko configuration names it; for a disk that is kept, its device file.
        name: the kernel's name when the plan was made.
        stable_id: serial number or world-wide ID.
        size_bytes: its size.
        model: its maker's name.
        content: what is on it.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    name: str
    stable_id: str
    size_bytes: int
    model: str
    content: str


def plan_disks(
    devices: Mapping[str, str], facts: Facts, host: Host
) -> tuple[tuple[PlannedDisk, ...], tuple[PlannedDisk, ...]]:
    """Find the disks that the disko configuration names, and say which are left alone.

    Args:
        devices: the disko configuration's disks: its name for each, and the device file.
        facts: what was observed.
        host: the host, whose pins each disk to be wiped has to match, if it has any.

    Returns:
        The disks to wipe, in the configuration's order, and all others.

    Raises:
        TargetRefused: a disk is missing, read-only, named twice, or none that the inventory pins; or a pinned disk is
            none of the configuration's.

    """
    wipe: dict[str, tuple[str, Disk]] = {}
    for label, device in devices.items():
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
        wipe[disk.name] = (device, disk)
    for pin in host.disks:
        if not any(_matches(pin, disk) for _, disk in wipe.values()):
            raise TargetRefused(
                f"no disk of the flake's disko configuration is the one that the inventory names: {_pin(pin)}.",
                hint=f"There are: {_there(facts)}. Correct disks in the inventory, or the device in the flake.",
            )
    kept = [disk for disk in facts.disks if disk.name not in wipe]
    return (
        tuple(_planned(device, disk) for device, disk in wipe.values()),
        tuple(_planned(disk.path, disk) for disk in kept),
    )


def same_disks(wipe: Iterable[PlannedDisk], facts: Facts) -> None:
    """See that every device of the plan is still the disk that the plan names. Names may change from boot to boot.

    Raises:
        UnexpectedState: a device is missing, or is another disk.

    """
    for planned in wipe:
        disk = find_disk(facts, planned.device)
        if disk is None:
            raise UnexpectedState(
                f"{planned.device}, which the plan would wipe, is not in the installer; there are: {_there(facts)}.",
                hint="Name the disk by /dev/disk/by-id in the flake; the image may lack its driver.",
            )
        if (disk.stable_id, disk.size_bytes) != (planned.stable_id, planned.size_bytes):
            raise UnexpectedState(
                f"{planned.device} is another disk in the installer ({_named(disk)}) than in the plan "
                f"({planned.stable_id or 'no serial'}, {planned.size_bytes} bytes).",
                hint="Name the disk by /dev/disk/by-id in the flake.",
            )


def find_disk(facts: Facts, device: str) -> Disk | None:
    """Return the disk behind a device file: /dev/NAME, or a link under /dev/disk."""
    return next((disk for disk in facts.disks if device == disk.path or device in disk.links), None)


def _check_disk(disk: Disk, device: str, host: Host) -> None:
    if disk.readonly:
        raise TargetRefused(
            f"the disk {device} of {host.name} is read-only.", hint="Unlock it, or name another one in the flake."
        )
    if host.disks and not any(_matches(pin, disk) for pin in host.disks):
        pinned = "; ".join(_pin(pin) for pin in host.disks)
        raise TargetRefused(
            f"{device} on {host.name} is {_named(disk)}, none that the inventory allows to wipe ({pinned}).",
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


def _planned(device: str, disk: Disk) -> PlannedDisk:
    return PlannedDisk(
        device=device,
        name=disk.name,
        stable_id=disk.stable_id,
        size_bytes=disk.size_bytes,
        model=disk.model,
        content=disk.describe_content(),
    )
