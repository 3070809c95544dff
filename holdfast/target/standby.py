"""The standby: the installer on the new disk, until the final system has its boot loader (nix/scripts/any/standby.sh).

If the image has a starter (nix/scripts/installer/starter.sh), it comes too: only that goes to the boot partition. What
kexec has handed over is in the installer's RAM already (nix/scripts/parts/kexec-keep.sh).

The install does not depend on it: a caller that catches NoStandby logs the reason and continues.
"""

import re
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from lzma import LZMAError
from pathlib import Path
from typing import Final

from holdfast.base.errors import CommandFailed, HoldfastError
from holdfast.base.places import STANDBY_IN_RAM
from holdfast.base.settings import script
from holdfast.base.size import MIB
from holdfast.base.text import printable
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host, Way
from holdfast.plan.way_back.standby import STATE_ON_BOOT
from holdfast.ssh.connection import Connection
from holdfast.target import dead_man
from holdfast.target.machine import Machine
from holdfast.target.standby_parts import Program, unpack

# To make room in RAM, to write the command line there, and to give the room back.
ROOM_S: Final = 60
# To send an EFI stub over a slow link, and to make the starter's program of it and of what is there.
PROGRAM_S: Final = 300
# For standby.sh, which copies the standby to the boot partition.
PUT_S: Final = 600
# What standby.sh says of a standby that is complete, beside the boot loader of the new system.
OTHER_LOADER: Final = "another boot loader is in its place"
_SHOWN: Final = 300


class NoStandby(HoldfastError):
    """The new disk does not boot the installer. The user need not do anything: the install continues without it."""


class StandbyStays(HoldfastError):
    """A part of the standby is still on the boot partition: the user removes it, or runs the phase again."""


def wanted(host: Host) -> bool:
    """Return whether the host gets a standby: never in the standard way, whose installer is not on the tailnet."""
    return host.standby and host.way is Way.TAILSCALE


def bring(
    machine: Machine, image: Path, facts: Facts, *, on_progress: Callable[[int, int], None] | None = None
) -> None:
    """Bring the image's kernel, initrd and starter into the installer's RAM, before the origin is wiped.

    Only what is not there already is uploaded; all of it is checked by sha256. The dead-man stays armed, and is fed
    while this makes progress.

    Args:
        machine: the machine, on this boot of the installer.
        image: the kexec image that the installer was started from.
        facts: what the installer answered.
        on_progress: called with the bytes that are there and the bytes in all, for each of the files.

    Raises:
        NoStandby: a standby is not possible here; the message says why.

    """
    if facts.kexec.secure_boot:
        raise NoStandby("Secure Boot is on, and the boot loader of a standby is not signed")
    try:
        with tempfile.TemporaryDirectory(prefix="holdfast-standby-") as folder:
            parts = unpack(image, Path(folder), facts.firmware)
            size = sum(file.stat().st_size for file in parts.all)
            with machine.connect_over_last_way() as target:
                _require_memory(size, _make_room(target, size), facts.available_bytes)
                line = f"{parts.command_line}\n".encode()
                target.write_file(f"{STANDBY_IN_RAM}/command-line", line, mode=0o600, timeout_s=ROOM_S)
            sent = sum(_upload(machine, file, facts, on_progress) for file in parts.files)
            if parts.program:
                sent += _make_program(machine, parts.program)
                sent += _upload(machine, parts.program.file, facts, on_progress)
            machine.log.say(f"the standby: {sent} of {size} bytes are uploaded, the others were in the installer's RAM")
    except NoStandby:
        raise
    except HoldfastError as error:
        raise NoStandby(error.message) from error
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        why = f"{image} could not be unpacked: {str(error)[:_SHOWN] or type(error).__name__}"
        raise NoStandby(why) from error


def arm(target: Connection, root: str, host: Host) -> None:
    """Make the new disk boot the installer that `bring` uploaded, and give back the RAM that it took.

    Args:
        target: a connection to the installer.
        root: where the new root is mounted, with this plan's mark.
        host: the host; its `allow` says whether the boot partition may hold the state of an encrypted root.

    Raises:
        NoStandby: the disk does not boot the installer.

    """
    try:
        said = _said(target, "put", root, STANDBY_IN_RAM, *({STATE_ON_BOOT} & {*host.allow}))
        _give_back(target)
    except HoldfastError as error:
        raise NoStandby(error.message) from error
    if why := _why_not_armed(said):
        raise NoStandby(why)


def give_back(machine: Machine) -> None:
    """Give back the RAM that kexec or `bring` has taken, if there will be no standby. It never fails."""
    with suppress(HoldfastError), machine.connect_over_last_way() as target:
        _give_back(target)


def why_missing(target: Connection, root: str) -> str:
    """Return why the disk at `root` does not boot the standby; empty if it does. Raises as Connection.run_script."""
    try:
        said = _said(target, "show", root)
    except CommandFailed as error:
        return error.message
    return _why_not_armed(said)


def remove(target: Connection, root: str) -> bool:
    """Remove the standby and the secrets in it. Called when the final system's boot loader is in place.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.

    Returns:
        Whether there was one.

    Raises:
        StandbyStays: a part of it is still there.

    """
    try:
        said = _said(target, "remove", root)
    except HoldfastError as error:
        raise StandbyStays(error.message) from error
    if not said.startswith(("removed: ", "none: ")):
        raise StandbyStays(said)
    return said.startswith("removed: ")


def _give_back(target: Connection) -> None:
    argv = ["sh", "-c", script("installer/standby-give-back.sh"), "standby-give-back.sh", STANDBY_IN_RAM]
    target.run(argv, timeout_s=ROOM_S, check=False)


def _why_not_armed(said: str) -> str:
    return "" if said.startswith("armed: ") else said.removeprefix("none: ")


def _said(target: Connection, *words: str) -> str:
    """Run the script and return the last line that it prints."""
    done = target.run_script(script("any/standby.sh"), words, timeout_s=PUT_S)
    return printable((done.stdout.strip().splitlines() or ["standby.sh printed nothing"])[-1])[:_SHOWN]


def _make_room(target: Connection, size_bytes: int) -> int:
    """Make the folder with room for so many bytes more, and return how many are there already."""
    argv = ["sh", "-c", script("installer/standby-make-room.sh"), "standby-make-room.sh", STANDBY_IN_RAM]
    said = target.run([*argv, str(size_bytes + 16 * MIB)], timeout_s=ROOM_S).stdout.strip()
    return int(said) * 1024 if re.fullmatch("[0-9]{1,12}", said) else 0


def _require_memory(size_bytes: int, there_bytes: int, available_bytes: int) -> None:
    needed = max(size_bytes - there_bytes, 0) + size_bytes // 2 + 256 * MIB
    if available_bytes < needed:
        raise NoStandby(
            f"the installer has {available_bytes // MIB} MiB of memory left, and {needed // MIB} are needed"
        )


def _upload(machine: Machine, file: Path, facts: Facts, on_progress: Callable[[int, int], None] | None) -> int:
    """Feed the dead-man, since the installer was reached, and upload a file, whose progress feeds it, too.

    Returns:
        How many of its bytes were not there before.

    """
    deadlines = machine.host.deadlines
    with machine.connect_over_last_way() as target:
        dead_man.feed(target)
    there: list[int] = []

    def report(done: int, total: int) -> None:
        if not there:
            there.append(done)
        if on_progress:
            on_progress(done, total)

    machine.upload(
        file,
        f"{STANDBY_IN_RAM}/{file.name}",
        timeout_s=deadlines.upload_s,
        on_progress=report,
        dead_man_s=dead_man.waits_s(facts, deadlines),
    )
    return file.stat().st_size - there[0]


def _make_program(machine: Machine, program: Program) -> int:
    """Make the program of files that are there already, as if an upload had broken off: the next one checks it.

    Returns:
        How many bytes of it were sent.

    """
    argv = ["sh", "-c", script("installer/standby-program.sh"), "standby-program.sh", STANDBY_IN_RAM]
    argv += [str(program.gap_bytes), str(program.tail_bytes)]
    with machine.connect_over_last_way() as target:
        dead_man.feed(target)
        target.run(argv, stdin=program.head, timeout_s=PROGRAM_S, check=False)
    return len(program.head)
