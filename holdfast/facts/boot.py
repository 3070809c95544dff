"""What decides how the origin boots, and whether it is then on its tailnet."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import ConfigDict, Field, ValidationError

from holdfast.base.frozen import Frozen
from holdfast.facts.boot_loader import LoaderFacts, parse_loader
from holdfast.facts.bounded import clean, first_word, number, split_lines
from holdfast.facts.file_systems import FileSystemFacts, parse_file_systems
from holdfast.facts.opening import OpeningFacts, parse_opening
from holdfast.facts.starting import StartingFacts, parse_starting

MAX_FILES: Final = 512
# USER_HZ: proc(5) counts in hundredths of a second on every architecture that runs NixOS.
_TICKS_PER_S: Final = 100


class Proof(Frozen):
    """What a rehearsal of the origin wrote there when the origin had come back by itself.

    Attributes:
        run_id: the run.
        boot_id: the boot that came back.
        at: when, in seconds since 1970 by the operator's clock.
        fingerprint: BootFacts.fingerprint of then.

    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    run_id: str = Field(pattern=r"^[0-9A-Za-z-]{1,64}$")
    boot_id: str = Field(pattern=r"^[0-9a-f-]{36}$")
    at: float = Field(ge=0, le=1e11)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")


class BootFile(Frozen):
    """A file that decides the next boot.

    Attributes:
        group: what it belongs to: `kernel`, `loader`, `fstab`, `crypttab`, `network` or `tailscaled`.
        changed_at: when it was put there, in seconds since 1970 by the origin's clock.
        path: its path.

    """

    group: str
    changed_at: int
    path: str


class BootFacts(Frozen):
    """What decides how the origin boots.

    Attributes:
        booted_at: when it booted, in seconds since 1970 by its own clock; 0 if unknown.
        tailscaled_since: when the tailscaled that runs was started, likewise; 0 if unknown.
        fingerprint: a digest of all that decides a boot (SHA-256 in hexadecimal); empty if unknown.
        proved: what a rehearsal of the origin proved; None if there was none, or its mark is invalid.
        files: the files that decide the next boot.
        loader: what the boot loader starts by default.
        starting: what starts tailscaled and the SSH server.
        opening: what is encrypted, and what opens it.
        file_systems: file systems that the boot may stop at.

    """

    booted_at: int = 0
    tailscaled_since: int = 0
    fingerprint: str = ""
    proved: Proof | None = None
    files: tuple[BootFile, ...] = ()
    loader: LoaderFacts = LoaderFacts()
    starting: StartingFacts = StartingFacts()
    opening: OpeningFacts = OpeningFacts()
    file_systems: FileSystemFacts = FileSystemFacts()


def parse_boot(said: Mapping[str, str]) -> BootFacts:
    """Parse what way-back.sh says of the boot."""
    booted_at = number(said["booted_at"])
    starting = parse_starting(said)
    ticks = starting.tailscaled.ticks if starting.tailscaled else 0
    fingerprint = first_word(said["fingerprint"])
    return BootFacts(
        booted_at=booted_at,
        tailscaled_since=booted_at + ticks // _TICKS_PER_S if booted_at and ticks else 0,
        fingerprint=fingerprint if re.fullmatch(r"[0-9a-f]{64}", fingerprint) else "",
        proved=_proof(said["proved"]),
        files=tuple(_files(said["decisive_files"])),
        loader=parse_loader(said),
        starting=starting,
        opening=parse_opening(said),
        file_systems=parse_file_systems(said),
    )


def _files(text: str) -> Iterator[BootFile]:
    for line in split_lines(text)[:MAX_FILES]:
        group, _, rest = line.partition(" ")
        changed_at, _, rest = rest.partition(" ")
        path = rest.partition(" ")[2]
        if path and number(changed_at):
            yield BootFile(group=clean(group), changed_at=number(changed_at), path=f"/{clean(path)}")


def _proof(text: str) -> Proof | None:
    try:
        return Proof.model_validate_json(text)
    except ValidationError:
        return None
