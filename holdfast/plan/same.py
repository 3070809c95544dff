"""Finds the disks of a plan again in the installer, where the kernel may have given them other names."""

from collections.abc import Iterable

from holdfast.base.errors import UnexpectedState
from holdfast.facts.disks import Disk
from holdfast.facts.facts import Facts
from holdfast.facts.health import is_failing
from holdfast.inventory.host import Host
from holdfast.plan.disks import FAILING_DISK, PlannedDisk
from holdfast.plan.which_disk import alike, find_disk, named_by_maker, same_id, there_are


def same_disks(named: Iterable[PlannedDisk], facts: Facts) -> None:
    """Find the disks that the plan wipes or uses again, by their makers' IDs: names may change at each boot.

    Each must be the disk at the device that the disko script writes to.

    Raises:
        UnexpectedState: a disk is missing, has another size, is read-only or cannot be told from another; or its
            device is now another disk. The message says which device the disk is now.

    """
    for planned in named:
        what = f"{_said(planned)}, which the plan has as {planned.device}"
        found = _found_again(planned, what, facts)
        if found.readonly:
            raise UnexpectedState(f"{what}, is read-only in the installer.", hint="Unlock it, then retry the run.")
        there = find_disk(facts, planned.device)
        if there != found:
            now = f"{planned.device} is {named_by_maker(there)} there" if there else f"there is no {planned.device}"
            raise UnexpectedState(
                f"{what}, is {found.path} in the installer, and {now}; nothing was formatted.",
                hint="Name the disk by /dev/disk/by-id in the flake.",
            )


def found_disks(named: Iterable[PlannedDisk], facts: Facts) -> tuple[Disk, ...]:
    """Return what disks of the plan are in the installer (after same_disks)."""
    return tuple(disk for planned in named if (disk := find_disk(facts, planned.device)))


def kept_disks(taken: Iterable[Disk], facts: Facts) -> tuple[str, ...]:
    """Return the device files of the disks in the installer other than these."""
    names = {disk.name for disk in taken}
    return tuple(disk.path for disk in facts.disks if disk.name not in names)


def require_no_new_failure(host: Host, planned: Iterable[PlannedDisk], facts: Facts) -> None:
    """Stop if a disk says in the installer that it is about to fail, and the plan did not show that to anybody.

    Args:
        host: the host.
        planned: all disks of the plan.
        facts: what the installer answered.

    Raises:
        UnexpectedState: the message names the disk and what it says.

    """
    shown = [disk for disk in planned if disk.failing]
    for disk in facts.disks:
        known = any(same_id(each, disk) or each.name == disk.name for each in shown)
        if is_failing(disk.health) and not known and FAILING_DISK not in host.allow:
            raise UnexpectedState(
                f"the disk {disk.path} of {host.name} ({named_by_maker(disk)}) is {disk.health}, which the plan did not"
                " show; nothing was formatted.",
                hint=f'Replace it, or add "{FAILING_DISK}" to allow in the inventory and start a new run.',
            )


def _found_again(planned: PlannedDisk, what: str, facts: Facts) -> Disk:
    """Return the one disk that is a disk of the plan."""
    if not planned.serial and not planned.wwid:
        # Only its device and size are known. A system with udev may see a serial number that one without does not.
        there = find_disk(facts, planned.device)
        like = [there] if there and not there.stable_id else []
    else:
        like = [disk for disk in facts.disks if same_id(planned, disk)]
        # Makers give some series of disks one world-wide ID; then the serial number decides.
        like = [disk for disk in like if planned.serial and disk.serial == planned.serial] or like
    if not like:
        raise UnexpectedState(
            f"{what}, is not in the installer; nothing was formatted. There are: {there_are(facts)}.",
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
    there = find_disk(facts, planned.device)
    found = there if there in sized else sized[0]
    twins = [*sized, *(disk for disk in alike(planned.device, found, facts) if disk not in sized)]
    if len(twins) > 1:
        raise UnexpectedState(
            f"{what}, cannot be told from others in the installer: {', '.join(disk.path for disk in twins)} have the"
            " same serial number and size; nothing was formatted.",
            hint="Unplug the other one, then retry the run.",
        )
    return found


def _said(planned: PlannedDisk) -> str:
    return f"the disk {planned.serial or planned.wwid or 'without a serial number'} ({planned.size_bytes} bytes)"
