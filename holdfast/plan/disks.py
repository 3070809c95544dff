"""The disks of a plan: those that are wiped, those that are used without it, and those that stay as they are."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from holdfast.base.errors import TargetRefused
from holdfast.base.frozen import Frozen
from holdfast.base.text import clip
from holdfast.facts.disks import Disk
from holdfast.facts.facts import Facts
from holdfast.facts.health import is_failing
from holdfast.inventory.host import Allowance, DiskPin, Host
from holdfast.plan.groups import LONGEST_CONTENT, check_groups, describe_groups
from holdfast.plan.udev_names import fits, has_udev
from holdfast.plan.which_disk import BY_ID, alike, find_disk, named_by_maker, there_are

FAILING_DISK: Final[Allowance] = "failing-disk"
# These links of udev have only a number. One with maker and serial number tells a person more.
_NUMBERS: Final = ("wwn-", "nvme-eui.", "nvme-nvme.", "scsi-")
_NO_UDEV: Final = " It has no udev, so links of /dev/disk/by-id are told from what the kernel says of each disk."


class DiskoDisk(Frozen):
    """A disk of the flake's disko configuration.

    Attributes:
        device: its device file.
        destroy: whether disko wipes it first; otherwise it makes only what is missing there, and mounts.

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
        health: what it says of itself: `passed`, or `failing: …`; empty if unknown.

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
    health: str = ""

    @property
    def failing(self) -> bool:
        """Whether it says that it is about to fail."""
        return is_failing(self.health)

    @property
    def named_by_id(self) -> bool:
        """Whether the configuration names the disk itself; by-path names a slot, by-label any disk with that label."""
        return self.device.startswith(BY_ID)


class Disks(NamedTuple):
    """What becomes of all the disks of a machine.

    Attributes:
        wipe: those that are wiped, in the configuration's order.
        reuse: those that are used and not wiped (`destroy = false`), in the configuration's order.
        keep: the others, which stay as they are.
        losses: what is lost on disks that are not wiped; the inventory allows it.

    """

    wipe: tuple[PlannedDisk, ...]
    reuse: tuple[PlannedDisk, ...]
    keep: tuple[PlannedDisk, ...]
    losses: tuple[str, ...] = ()


def plan_disks(devices: Mapping[str, DiskoDisk], facts: Facts, host: Host, *, formatted: bool = False) -> Disks:
    """Find the disks that the disko configuration names, and the others.

    Args:
        devices: the disks of the disko configuration, by its own name for each.
        facts: what was observed.
        host: the host; if it has pins, each disk to wipe must match one.
        formatted: whether they are formatted already, so that nothing more is lost.

    Raises:
        TargetRefused: a disk is missing, read-only, named twice, not pinned by the inventory, or cannot be told from
            another; a pinned disk is not in the configuration; or to wipe a disk breaks what another one has a part of.

    """
    found: dict[str, tuple[DiskoDisk, Disk]] = {}
    for label, named in devices.items():
        disk = _named_disk(label, named, facts, host)
        if disk.name in found:
            raise TargetRefused(
                f"{named.device} and {found[disk.name][0].device} are the same disk of {host.name}.",
                hint="Give each disk of the disko configuration a device of its own.",
            )
        found[disk.name] = (named, disk)
    for pin in host.disks:
        if not any(_matches(pin, disk, facts) for _, disk in found.values()):
            raise TargetRefused(
                f"no disk of the flake's disko configuration is the one that the inventory pins: {_pin(pin)}.",
                hint=f"There are: {there_are(facts)}. Correct disks in the inventory, or the device in the flake.",
            )
    wiped = frozenset(name for name, (named, _) in found.items() if named.destroy)
    losses = () if formatted else check_groups(host, facts, wiped)
    return Disks(
        wipe=tuple(_planned(named.device, disk, facts, host) for named, disk in found.values() if named.destroy),
        reuse=tuple(_planned(named.device, disk, facts, host) for named, disk in found.values() if not named.destroy),
        keep=tuple(_planned(disk.path, disk, facts) for disk in facts.disks if disk.name not in found),
        losses=losses,
    )


def _named_disk(label: str, named: DiskoDisk, facts: Facts, host: Host) -> Disk:
    """Return the disk of the machine that a disk of the disko configuration names."""
    device = named.device
    disk = find_disk(facts, device) or _without_udev(device, facts)
    if disk is None:
        raise TargetRefused(
            f"the disk {device} of the flake's disko configuration ({label}) is not on {host.name}.",
            hint=f"There are: {there_are(facts)}. Correct the device in the flake."
            f"{'' if has_udev(facts) else _NO_UDEV}",
        )
    _check_disk(disk, named, facts, host)
    if others := [other for other in alike(device, disk, facts) if other != disk]:
        raise TargetRefused(
            f"{device} on {host.name} cannot be told from {others[0].path}: both are {named_by_maker(disk)}.",
            hint="Unplug the other one, or give them serial numbers of their own if the machine is virtual.",
        )
    return disk


def _without_udev(device: str, facts: Facts) -> Disk | None:
    """Return the disk that a link of udev would lead to, if there is no udev, and it fits only one."""
    if has_udev(facts) or not device.startswith(BY_ID):
        return None
    found = [disk for disk in facts.disks if fits(disk, device.removeprefix(BY_ID))]
    return found[0] if len(found) == 1 else None


def _check_disk(disk: Disk, named: DiskoDisk, facts: Facts, host: Host) -> None:
    device = named.device
    if disk.readonly:
        raise TargetRefused(
            f"the disk {device} of {host.name} is read-only.", hint="Unlock it, or name another one in the flake."
        )
    if named.destroy and host.disks and not any(_matches(pin, disk, facts) for pin in host.disks):
        pinned = "; ".join(_pin(pin) for pin in host.disks)
        raise TargetRefused(
            f"{device} on {host.name} is {named_by_maker(disk)}, which the inventory does not allow to wipe"
            f" ({pinned}).",
            hint="Correct disks in the inventory, or the device in the flake.",
        )


def _matches(pin: DiskPin, disk: Disk, facts: Facts) -> bool:
    links = pin.by_id is None or pin.by_id in disk.by_id or (not has_udev(facts) and fits(disk, pin.by_id))
    return (
        links
        and (pin.serial is None or pin.serial == disk.serial)
        and (pin.size_bytes is None or pin.size_bytes == disk.size_bytes)
    )


def _pin(pin: DiskPin) -> str:
    said = pin.model_dump(exclude_none=True)
    return ", ".join(f"{key} {value}" for key, value in said.items())


def _is_pinned(disk: Disk, facts: Facts, host: Host) -> bool:
    return any([disk] == [other for other in facts.disks if _matches(pin, other, facts)] for pin in host.disks)


def _planned(device: str, disk: Disk, facts: Facts, host: Host | None = None) -> PlannedDisk:
    """Return a disk for the plan; with the host if the disko configuration names it."""
    links = sorted(disk.by_id, key=lambda name: (name.startswith(_NUMBERS), name))
    own = device if device.startswith(BY_ID) else ""
    content = (disk.describe_content(), describe_groups(disk, facts))
    return PlannedDisk(
        device=device,
        name=disk.name,
        by_id=own or (f"{BY_ID}{links[0]}" if links else ""),
        stable_id=disk.stable_id,
        serial=disk.serial,
        wwid=disk.wwid,
        size_bytes=disk.size_bytes,
        model=disk.model,
        content="; ".join(clip(text, LONGEST_CONTENT // 2 - 1) for text in content if text),
        pinned=host is not None and _is_pinned(disk, facts, host),
        health=disk.health,
    )
