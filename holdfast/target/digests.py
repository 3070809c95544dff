"""Proves that disks did not change, by digests of their first and last MiB, where the partition tables are."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from holdfast.base.errors import UnexpectedState
from holdfast.base.settings import script
from holdfast.ssh.connection import Connection

# A disk that sleeps takes some 10 s to spin up; each is read alone.
READ_S: Final = 300
_LINE: Final = re.compile(r"(/dev/\S+) (?:([0-9a-f]{64} [0-9a-f]{64})|unreadable|gone)", re.ASCII)


def take(target: Connection, disks: Sequence[str]) -> dict[str, str]:
    """Return the digest of each disk, by its device file; an empty text for a disk that cannot be read, or is gone.

    Args:
        target: a connection to the installer.
        disks: device files, as in the facts.

    Raises:
        UnexpectedState: the answer is not what nix/scripts/installer/disk-digests.sh prints for these disks.

    """
    if not disks:
        return {}
    said = target.run_script(script("installer/disk-digests.sh"), disks, timeout_s=READ_S).stdout
    found = {match[1]: match[2] or "" for line in said.split("\n") if (match := _LINE.fullmatch(line))}
    if list(found) != list(disks):
        lacking = ", ".join(disk for disk in disks if disk not in found)
        raise UnexpectedState(
            f"{target.endpoint.host} gave no valid digest for {lacking}.",
            hint="Does a login there print text? `ssh TARGET true` must print nothing.",
        )
    return found


def require_same(host: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Check that no disk that could be read before has changed since.

    Raises:
        UnexpectedState: a disk has changed, or can no longer be read; the message names it.

    """
    changed = [disk for disk, digest in before.items() if digest and after.get(disk) and after[disk] != digest]
    lost = [disk for disk, digest in before.items() if digest and not after.get(disk)]
    if not changed and not lost:
        return
    seen = [f"{', '.join(changed)} changed"] if changed else []
    seen += [f"{', '.join(lost)} can no longer be read"] if lost else []
    raise UnexpectedState(
        f"after formatting the disks of the plan for {host}, a disk that has to be kept is not as before:"
        f" {' and '.join(seen)}.",
        hint="Look at the disk in the installer, and at what else the disko configuration does. A retry continues the"
        " install and formats nothing.",
    )
