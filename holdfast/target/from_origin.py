"""Takes the standby's files from the origin's own disk, before that is formatted: what was uploaded once lies there.

nix/scripts/installer/standby-from-origin.sh does it; each file is checked by its size and sha256. Only the disks that
will be wiped are looked at, through read-only loop devices, so nothing is written to them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.base.errors import HoldfastError, Restarted
from holdfast.base.places import STANDBY_IN_RAM
from holdfast.base.settings import script
from holdfast.base.text import printable
from holdfast.ssh.connection import Connection
from holdfast.target import dead_man
from holdfast.target.machine import Machine

# For a slow disk: an image of 700 MB at 5 MB/s. The dead-man may leave less.
TAKE_S: Final = 150
RELEASED_S: Final = 120
# Of what is no file of the image: the stub of an EFI program, and what pads it.
MAX_LITERALS: Final = 4 << 20


class StillHeld(HoldfastError):
    """The origin's disk is not released, or nobody knows: it must not be formatted. The user retries, or looks."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of the standby.

    Attributes:
        file: the file here; its name is its name there.
        pieces: what it consists of: names of files of the image, and small parts.

    """

    file: Path
    pieces: tuple[str | bytes, ...]

    @property
    def literal_bytes(self) -> int:
        """The size of its small parts, which are sent."""
        return sum(len(piece) for piece in self.pieces if isinstance(piece, bytes))


def made_of(content: bytes, sources: Mapping[str, bytes]) -> tuple[str | bytes, ...]:
    """Return the pieces of a file that contains other files.

    Args:
        content: the file.
        sources: the files of the image that are in it, in their order, each by its name in the image.

    """
    pieces: list[str | bytes] = []
    done = 0
    for name, source in sources.items():
        at = content.find(source, done)
        if at < 0 or not source:
            continue
        pieces += [content[done:at], name]
        done = at + len(source)
    return tuple(piece for piece in (*pieces, content[done:]) if piece)


def take(
    machine: Machine, image_sha256: str, wanted: Sequence[Wanted], disks: Sequence[str], *, dead_man_s: float
) -> frozenset[str]:
    """Make files of the standby from what lies on the disks. Return the names of those that are there now.

    Whatever prevents it is said in the log; then they are uploaded.

    Args:
        machine: the machine, on this boot of the installer; its dead-man is fed first.
        image_sha256: digest of the image that the origin was given.
        wanted: the files.
        disks: the disks that will be wiped, by the kernel's names.
        dead_man_s: how long the dead-man waits after it is fed.

    Raises:
        StillHeld: a disk may still be in use.

    """
    literals = b"".join(piece for each in wanted for piece in each.pieces if isinstance(piece, bytes))
    if not disks or len(literals) > MAX_LITERALS:
        return frozenset()
    argv = ["unshare", "-m", "sh", "-c", script("installer/standby-from-origin.sh"), "standby-from-origin.sh"]
    argv += [STANDBY_IN_RAM, image_sha256[:16], str(len(literals)), *disks, "--", *_asked(wanted)]
    taken: frozenset[str] = frozenset()
    try:
        with machine.connect_over_last_way() as target:
            dead_man.feed(target)
            done = target.run(argv, timeout_s=min(TAKE_S, dead_man_s / 2), stdin=literals, check=False)
        if done.exit_status:
            machine.log.say(f"nothing is taken from the origin's disk: {done.summary()}")
        else:
            taken = frozenset(each.file.name for each in wanted) & {*done.stdout.split()}
    except HoldfastError as error:
        machine.log.say(f"nothing is taken from the origin's disk: {error.message}")
    _require_released(machine, disks)
    return taken


def _asked(wanted: Sequence[Wanted]) -> list[str]:
    words: list[str] = []
    at = 0
    for each in wanted:
        pieces = []
        for piece in each.pieces:
            if isinstance(piece, bytes):
                pieces.append(f"@{at}+{len(piece)}")
                at += len(piece)
            else:
                pieces.append(piece)
        with each.file.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        words += [each.file.name, str(each.file.stat().st_size), digest, ",".join(pieces)]
    return words


def _require_released(machine: Machine, disks: Sequence[str]) -> None:
    name = machine.host.name
    try:
        with machine.wait_and_connect() as target:
            why = _held(target, disks)
    except Restarted:
        return  # another boot: nothing of this one is left
    except HoldfastError as error:
        why = error.message
    if why:
        raise StillHeld(
            f"the origin's disk of {name}, which was read for the standby, may still be in use: {why}. Nothing is"
            " formatted.",
            hint="Retry. If it happens again, the disk may be failing; `standby = false` does without reading it.",
        )


def _held(target: Connection, disks: Sequence[str]) -> str:
    argv = ["sh", "-c", script("installer/standby-released.sh"), "standby-released.sh", *disks]
    done = target.run(argv, timeout_s=RELEASED_S, check=False)
    return printable(done.stdout.strip() or done.summary())[:300] if done.exit_status else ""
