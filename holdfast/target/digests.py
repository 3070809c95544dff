"""Proves that formatting left alone the disks that it must not wipe.

A disk that nothing uses has to be the same in its first and last MiB, where the partition tables are. On a disk that
is used without being wiped (disko's `destroy = false`), disko writes the table anew, makes partitions and file systems
that are missing, and mounts: there, each partition and each file system of before has to be in its place.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import Field

from holdfast.base.errors import UnexpectedState
from holdfast.base.frozen import Frozen
from holdfast.base.settings import script
from holdfast.facts.blocks import device_file
from holdfast.ssh.connection import Connection

# A disk that sleeps takes some 10 s to spin up; each is read alone.
READ_S: Final = 300
_DIGEST: Final = re.compile(r"(/dev/\S+) (?:([0-9a-f]{64} [0-9a-f]{64})|unreadable|gone)", re.ASCII)
_PART: Final = re.compile(r"(/dev/\S+) ([\w!.-]{1,64}) ([0-9]+|-) ([0-9]+|-) ([\w.:-]+) ([\w.:-]+)", re.ASCII)
_NOTHING: Final = "-"


class Content(Frozen):
    """A partition, or a whole disk: where it begins and how long it is, in sectors, and the file system in it."""

    start: str
    size: str
    fstype: str
    uuid: str


class Proof(Frozen):
    """What disks were like at one moment, by device file.

    Attributes:
        kept: digests of the disks that nothing may use; an empty text for a disk that cannot be read, or is gone.
        used: what is on the disks that are used without being wiped, by a partition's kernel name; `-` is the disk.

    """

    kept: Mapping[str, str] = Field(default_factory=dict)
    used: Mapping[str, Mapping[str, Content]] = Field(default_factory=dict)

    @property
    def unread(self) -> tuple[str, ...]:
        """The disks that nothing may use, and that cannot be read."""
        return tuple(disk for disk, digest in self.kept.items() if not digest)

    def again(self, target: Connection) -> "Proof":
        """Look at the same disks again. Raises UnexpectedState: see take."""
        return take(target, kept=list(self.kept), used=list(self.used))

    def require_same(self, host: str, after: "Proof") -> tuple[str, ...]:
        """Check that no disk that could be read before has changed since, but for what disko may change.

        Returns:
            What is proved, a line for each kind of disk.

        Raises:
            UnexpectedState: a disk has changed, or can no longer be read; the message names it.

        """
        read = [disk for disk, digest in self.kept.items() if digest]
        changed = [disk for disk in read if after.kept.get(disk) and after.kept[disk] != self.kept[disk]]
        lost = [disk for disk in read if not after.kept.get(disk)]
        seen = [f"{', '.join(changed)} changed"] if changed else []
        seen += [f"{', '.join(lost)} can no longer be read"] if lost else []
        for disk, parts in self.used.items():
            seen += _differences(disk, parts, after.used.get(disk, {}))
        if seen:
            raise UnexpectedState(
                f"after formatting the disks of the plan for {host}, a disk that must not be wiped is not as before:"
                f" {' and '.join(seen)}.",
                hint="Look at the disk in the installer, and at what else the disko configuration does. A retry"
                " continues the install and formats nothing.",
            )
        proved = [f"unchanged, by their first and last MiB: {', '.join(read)}"] if read else []
        if self.used:
            proved.append(f"used and not wiped, with all their partitions and file systems: {', '.join(self.used)}")
        return tuple(proved)


def take(target: Connection, *, kept: Sequence[str], used: Sequence[str]) -> Proof:
    """Look at disks in the installer.

    Args:
        target: a connection to the installer.
        kept: device files, as in the facts, of the disks that nothing may use.
        used: those of the disks that are used without being wiped.

    Raises:
        UnexpectedState: the answer is not what disk-digests.sh or disk-layout.sh print for these disks.

    """
    return Proof(kept=_digests(target, kept), used=_layout(target, used))


def _digests(target: Connection, disks: Sequence[str]) -> dict[str, str]:
    if not disks:
        return {}
    said = target.run_script(script("installer/disk-digests.sh"), disks, timeout_s=READ_S).stdout
    found = {match[1]: match[2] or "" for line in said.split("\n") if (match := _DIGEST.fullmatch(line))}
    if list(found) != list(disks):
        raise _no_answer(target, "digest", [disk for disk in disks if disk not in found])
    return found


def _layout(target: Connection, disks: Sequence[str]) -> dict[str, dict[str, Content]]:
    if not disks:
        return {}
    said = target.run_script(script("installer/disk-layout.sh"), disks, timeout_s=READ_S).stdout
    found: dict[str, dict[str, Content]] = {}
    for match in (_PART.fullmatch(line) for line in said.split("\n")):
        if match:
            found.setdefault(match[1], {})[match[2]] = Content(
                start=match[3], size=match[4], fstype=match[5], uuid=match[6]
            )
    if list(found) != list(disks) or any(_NOTHING not in parts for parts in found.values()):
        raise _no_answer(target, "layout", [disk for disk in disks if _NOTHING not in found.get(disk, {})])
    return found


def _no_answer(target: Connection, what: str, lacking: Sequence[str]) -> UnexpectedState:
    return UnexpectedState(
        f"{target.endpoint.host} gave no valid {what} for {', '.join(lacking)}.",
        hint="Does a login there print text? `ssh TARGET true` must print nothing.",
    )


def _differences(disk: str, before: Mapping[str, Content], after: Mapping[str, Content]) -> list[str]:
    """Return what of a disk is no longer as before."""
    seen = []
    for name, old in before.items():
        what = disk if name == _NOTHING else device_file(name)
        new = after.get(name)
        if new is None:
            seen.append(f"{what} is gone")
        elif (new.start, new.size) != (old.start, old.size):
            seen.append(f"{what} has another place or size")
        elif old.fstype != _NOTHING and (new.fstype, new.uuid) != (old.fstype, old.uuid):
            now = "nothing" if new.fstype == _NOTHING else f"{new.fstype} {new.uuid}"
            seen.append(f"{what} held {old.fstype} {old.uuid} and now holds {now}")
    return seen
