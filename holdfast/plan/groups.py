"""What lies on several disks at once: volume groups, arrays, pools. To wipe one of its disks breaks all of it."""

from collections.abc import Iterator
from typing import Final

from holdfast.base.errors import TargetRefused
from holdfast.facts.disks import Disk
from holdfast.facts.facts import Facts
from holdfast.facts.storage import Group
from holdfast.inventory.host import Allowance, Host

BREAKS_GROUP: Final[Allowance] = "breaks-group"
# Disko removes them as a whole, and by their names (its disk-deactivate.jq: vgremove, zpool destroy).
BY_NAME: Final = ("LVM volume group", "ZFS pool")


def device_file(name: str) -> str:
    """Return the device file of a kernel name, where `!` stands for a slash."""
    return f"/dev/{name.replace('!', '/')}"


def check_groups(host: Host, facts: Facts, wiped: frozenset[str]) -> tuple[str, ...]:
    """Refuse to wipe a disk that something shares with a disk that is not wiped.

    Args:
        host: the host.
        facts: what was observed.
        wiped: kernel names of the disks that will be wiped.

    Returns:
        What is lost on disks that are not wiped, a line for each, if the inventory allows it.

    Raises:
        TargetRefused: the inventory does not allow it.

    """
    losses = tuple(_losses(facts, wiped))
    if losses and BREAKS_GROUP not in host.allow:
        raise TargetRefused(
            f"on {host.name}, {'; '.join(losses)}.",
            hint="Put the other disk into the flake's disko configuration, take one of them out of it, or add"
            f' "{BREAKS_GROUP}" to allow in the inventory if all of that may be lost.',
        )
    return tuple(f"{loss}. The inventory allows it ({BREAKS_GROUP})" for loss in losses)


def _losses(facts: Facts, wiped: frozenset[str]) -> Iterator[str]:
    """Yield what is lost, a line for all that lies on the same disks and is lost in the same way."""
    # Of two with one name, disko may take the wrong one; two file systems may have one label.
    same: dict[tuple[str, str, int], list[Group]] = {}
    for number, group in enumerate(facts.groups):
        same.setdefault((group.kind, group.name, 0 if group.kind in BY_NAME else number), []).append(group)
    broken: dict[tuple[str, str, bool], list[str]] = {}
    for (kind, name, _), groups in same.items():
        disks = dict.fromkeys(disk for group in groups for disk in group.disks)
        gone = [disk for disk in disks if disk in wiped]
        left = [disk for disk in disks if disk not in wiped]
        if gone and left:
            mounted = ", ".join(dict.fromkeys(place for group in groups for place in group.mountpoints))
            said = f"the {kind} {name or 'without a name'}{f' (at {mounted})' if mounted else ''}"
            broken.setdefault((_paths(gone), _paths(left), kind in BY_NAME), []).append(said)
    for (gone_, left_, removed), names in broken.items():
        one = len(names) == 1
        lost = (
            f"disko removes {'it' if one else 'them'} whole, with what is on {left_}"
            if removed
            else f"{'it breaks' if one else 'they break'}, and what is on {left_} may be lost"
        )
        yield (
            f"{', '.join(names)} {'lies' if one else 'lie'} on {gone_}, to be wiped, and on {left_}, not to be wiped:"
            f" {lost}"
        )


def describe_groups(disk: Disk, facts: Facts) -> str:
    """Return what a disk is a part of, with the other disks and the places where it is mounted; empty if of nothing.

    The kernel shows a file system over several disks as mounted from only one of them.
    """
    parts = []
    for group in facts.groups:
        if disk.name not in group.disks or len(group.disks) < 2:
            continue
        others = [name for name in group.disks if name != disk.name]
        words = [f"{group.kind} {group.name}".strip(), f"with {_paths(others)}"]
        if group.mountpoints:
            words.append(f"at {', '.join(group.mountpoints)}")
        parts.append(f"part of {' '.join(words)}")
    return "; ".join(parts)


def _paths(names: list[str]) -> str:
    return ", ".join(device_file(name) for name in names)
