"""What lies on several disks at once: volume groups, arrays, pools. To wipe one of its disks breaks all of it."""

from collections.abc import Iterator
from typing import Final

from holdfast.base.errors import TargetRefused
from holdfast.base.text import clip
from holdfast.facts.blocks import device_file
from holdfast.facts.disks import Disk
from holdfast.facts.facts import Facts
from holdfast.facts.storage import POOL, VOLUME_GROUP, Group
from holdfast.inventory.host import Allowance, Host

BREAKS_GROUP: Final[Allowance] = "breaks-group"
# Disko removes them as a whole, and by their names (its disk-deactivate.jq: vgremove, zpool destroy).
BY_NAME: Final = (VOLUME_GROUP, POOL)
# Of what a target says about one disk.
LONGEST_CONTENT: Final = 4000
_SHOWN_GROUPS: Final = 16
_SHOWN: Final = 32


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
            mounted = _some(list(dict.fromkeys(place for group in groups for place in group.mountpoints)))
            said = f"the {kind} {name or 'without a name'}{f' (at {mounted})' if mounted else ''}"
            broken.setdefault((_paths(gone), _paths(left), kind in BY_NAME), []).append(said)
    for (gone_, left_, removed), names in broken.items():
        one = len(names) == 1
        said = clip(_some(names), LONGEST_CONTENT)
        lost = (
            f"disko removes {'it' if one else 'them'} whole, with what is on {left_}"
            if removed
            else f"{'it breaks' if one else 'they break'}, and what is on {left_} may be lost"
        )
        yield (f"{said} {'lies' if one else 'lie'} on {gone_}, to be wiped, and on {left_}, not to be wiped: {lost}")


def describe_groups(disk: Disk, facts: Facts) -> str:
    """Return what a disk is a part of, with the other disks and the places where it is mounted; empty if of nothing.

    The kernel shows a file system over several disks as mounted from only one of them.
    """
    parts = []
    shared = [group for group in facts.groups if len(group.disks) > 1 and disk.name in group.disks]
    for group in shared[:_SHOWN_GROUPS]:
        others = [name for name in group.disks if name != disk.name]
        words = [f"{group.kind} {group.name}".strip(), f"with {_paths(others)}"]
        if group.mountpoints:
            words.append(f"at {_some(list(group.mountpoints))}")
        parts.append(f"part of {' '.join(words)}")
    if len(shared) > _SHOWN_GROUPS:
        parts.append(f"part of {len(shared) - _SHOWN_GROUPS} more")
    return "; ".join(parts)


def _paths(names: list[str]) -> str:
    return _some([device_file(name) for name in names])


def _some(words: list[str]) -> str:
    """Return a list for a person, of a limited length: a target may name very many."""
    more = [f"{len(words) - _SHOWN} more"] if len(words) > _SHOWN else []
    return ", ".join([*words[:_SHOWN], *more])
