"""What lies on several disks at once: volume groups, arrays, pools. To wipe one of its disks breaks all of it."""

from collections.abc import Iterator
from typing import Final

from holdfast.base.errors import TargetRefused
from holdfast.facts.disks import Disk
from holdfast.facts.facts import Facts
from holdfast.facts.storage import Group
from holdfast.inventory.host import Allowance, Host

BREAKS_GROUP: Final[Allowance] = "breaks-group"
# One disk that is seen several times; with no other disk there is nothing to break.
_PATHS: Final = "multipath"
# Disko removes them as a whole, and by their names (its disk-deactivate.jq: vgremove, zpool destroy).
BY_NAME: Final = ("LVM volume group", "ZFS pool")


def with_other_paths(facts: Facts, names: frozenset[str]) -> frozenset[str]:
    """Return kernel names of disks, together with the other paths to the same disks (multipath)."""
    same = [group.disks for group in facts.groups if group.kind == _PATHS and names & set(group.disks)]
    return names.union(*same)


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
    losses = tuple(_losses(facts, with_other_paths(facts, wiped)))
    if losses and BREAKS_GROUP not in host.allow:
        raise TargetRefused(
            f"on {host.name}, {'; '.join(losses)}.",
            hint="Put the other disk into the flake's disko configuration, take one of them out of it, or add"
            f' "{BREAKS_GROUP}" to allow in the inventory if all of that may be lost.',
        )
    return tuple(f"{loss}. The inventory allows it ({BREAKS_GROUP})" for loss in losses)


def _losses(facts: Facts, wiped: frozenset[str]) -> Iterator[str]:
    # Of two with one name, disko may take the wrong one; two file systems may have one label.
    same: dict[tuple[str, str, int], list[Group]] = {}
    for number, group in enumerate(facts.groups):
        if group.kind != _PATHS:
            same.setdefault((group.kind, group.name, 0 if group.kind in BY_NAME else number), []).append(group)
    for (kind, name, _), groups in same.items():
        disks = dict.fromkeys(disk for group in groups for disk in group.disks)
        gone = [disk for disk in disks if disk in wiped]
        left = [disk for disk in disks if disk not in wiped]
        if not gone or not left:
            continue
        mounted = ", ".join(dict.fromkeys(place for group in groups for place in group.mountpoints))
        lost = (
            "is removed with all that it holds" if kind in BY_NAME else "breaks: without its other part it may be lost"
        )
        yield (
            f"the {kind} {name or 'without a name'}{f', mounted at {mounted},' if mounted else ''} lies on"
            f" {_paths(gone)}, to be wiped, and on {_paths(left)}, not to be wiped: it {lost}, also what is on"
            f" {_paths(left)}"
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
    return ", ".join(f"/dev/{name}" for name in names)
