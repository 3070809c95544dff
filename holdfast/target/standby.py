"""The standby: the installer on the new disk, until the final system has its boot loader (nix/scripts/any/standby.sh).

If the image has a starter (nix/scripts/installer/starter.sh), it comes too: only that goes to the boot partition.

The install does not depend on it: a caller that catches NoStandby logs the reason and continues.
"""

import re
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from lzma import LZMAError
from pathlib import Path
from typing import Final

from holdfast.base.errors import CommandFailed, ConfigError, HoldfastError
from holdfast.base.places import STANDBY_IN_RAM
from holdfast.base.settings import script
from holdfast.base.size import MIB
from holdfast.base.text import printable
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host, Way
from holdfast.plan.image import MAX_RUN_BYTES
from holdfast.plan.way_back.standby import STATE_ON_BOOT
from holdfast.ssh.connection import Connection
from holdfast.target import dead_man
from holdfast.target.machine import Machine
from holdfast.target.one_program import one_program

# To make room in RAM, to write the command line there, and to give the room back.
ROOM_S: Final = 60
# For standby.sh, which copies the standby to the boot partition.
PUT_S: Final = 600
# Every boot loader takes a command line of this length; the kernel's own limit on x86 and ARM is 2048 bytes.
MAX_COMMAND_LINE: Final = 2000
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
    """Upload the image's kernel, initrd and starter into the installer's RAM, before the origin is wiped.

    The dead-man stays armed, and is fed while this makes progress.

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
            files, command_line = _unpack(image, Path(folder), facts)
            size = sum(file.stat().st_size for file in files)
            _require_memory(size, facts.available_bytes)
            with machine.connect_over_last_way() as target:
                room = script("installer/standby-make-room.sh")
                argv = ["sh", "-c", room, "standby-make-room.sh", STANDBY_IN_RAM, str(size + 16 * MIB)]
                target.run(argv, timeout_s=ROOM_S)
                target.write_file(
                    f"{STANDBY_IN_RAM}/command-line", f"{command_line}\n".encode(), mode=0o600, timeout_s=ROOM_S
                )
            for file in files:
                _upload(machine, file, facts, on_progress)
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
        argv = ["sh", "-c", script("installer/standby-give-back.sh"), "standby-give-back.sh", STANDBY_IN_RAM]
        target.run(argv, timeout_s=ROOM_S, check=False)
    except HoldfastError as error:
        raise NoStandby(error.message) from error
    if why := _why_not_armed(said):
        raise NoStandby(why)


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


def _why_not_armed(said: str) -> str:
    return "" if said.startswith("armed: ") else said.removeprefix("none: ")


def _said(target: Connection, *words: str) -> str:
    """Run the script and return the last line that it prints."""
    done = target.run_script(script("any/standby.sh"), words, timeout_s=PUT_S)
    return printable((done.stdout.strip().splitlines() or ["standby.sh printed nothing"])[-1])[:_SHOWN]


def _require_memory(size_bytes: int, available_bytes: int) -> None:
    needed = size_bytes * 3 // 2 + 256 * MIB
    if available_bytes < needed:
        raise NoStandby(
            f"the installer has {available_bytes // MIB} MiB of memory left, and {needed // MIB} are needed"
        )


def _upload(machine: Machine, file: Path, facts: Facts, on_progress: Callable[[int, int], None] | None) -> None:
    """Feed the dead-man, since the installer was reached, and upload a file, whose progress feeds it, too."""
    deadlines = machine.host.deadlines
    with machine.connect_over_last_way() as target:
        dead_man.feed(target)
    machine.upload(
        file,
        f"{STANDBY_IN_RAM}/{file.name}",
        timeout_s=deadlines.upload_s,
        on_progress=on_progress,
        dead_man_s=dead_man.waits_s(facts, deadlines),
    )


def _unpack(image: Path, folder: Path, facts: Facts) -> tuple[list[Path], str]:
    """Write what the standby needs of the image into the folder, and return it with the kernel's command line.

    That is kernel and initrd and, if the image has one, the starter: for UEFI as one program, standby.efi.

    Raises:
        ConfigError: the image lacks a part, or its `kexec/run` is not Holdfast's.
        tarfile.TarError, OSError, EOFError: the image cannot be read, or the operator's disk is full.

    """
    parts = {"bzImage": "kernel", "initrd": "initrd", "starter": "starter", "stub.efi": "stub.efi"}
    names = {f"kexec/{part}": folder / name for part, name in parts.items()}
    runner = ""
    with tarfile.open(image, mode="r|*") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            file = tar.extractfile(member) if member.isreg() else None
            if file and name == "kexec/run":
                runner = file.read(MAX_RUN_BYTES).decode("utf-8", "replace")
            elif file and name in names:
                with names[name].open("wb") as out:
                    while piece := file.read(MIB):
                        out.write(piece)
    kernel, initrd, starter, stub = names.values()
    if missing := [name for name, path in names.items() if path in {kernel, initrd} and not path.is_file()]:
        raise ConfigError(f"{image} has no {', no '.join(missing)}.")
    line = _command_line(image, runner)
    if not starter.is_file():
        return [kernel, initrd], line
    if facts.firmware == "bios":
        return [kernel, initrd, starter], line
    if not stub.is_file():
        return [kernel, initrd], line
    program = folder / "standby.efi"
    program.write_bytes(
        one_program(stub.read_bytes(), command_line=line, initrd=starter.read_bytes(), kernel=kernel.read_bytes())
    )
    return [kernel, initrd, program], line


def _command_line(image: Path, runner: str) -> str:
    """Return the kernel's command line: two variables in `kexec/run` (nix/scripts/origin/kexec-run.sh)."""
    found = [re.search(rf'^{name}="(.*)"$', runner, re.MULTILINE) for name in ("init", "kernel_params")]
    values = [re.sub(r'\\([\\"$`])', r"\1", match[1]) for match in found if match]
    if len(values) != len(found):
        raise ConfigError(f"the kexec/run of {image} is not Holdfast's, so its kernel's command line is not known.")
    line = f"init={values[0]} {values[1]}"
    if not line.isprintable() or len(line.encode()) > MAX_COMMAND_LINE:
        raise ConfigError(
            f"the kernel's command line in {image} is invalid: it is too long for a boot loader, or is not text."
        )
    return line
