"""The standby: the installer on the new disk, until the final system has its boot loader (nix/scripts/any/standby.sh).

It is a second chance, so nothing here raises, but for a broken link where that matters: whoever calls is told why there
is none, and goes on.
"""

import re
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from lzma import LZMAError
from pathlib import Path
from typing import Final

from holdfast.base.deadline import Deadline
from holdfast.base.errors import CommandFailed, ConfigError, DeadlinePassed, HoldfastError
from holdfast.base.settings import script
from holdfast.base.text import printable
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host, Way
from holdfast.plan.image import MAX_RUN_BYTES, MIB
from holdfast.ssh.connection import Connection
from holdfast.ssh.upload import upload_over_links
from holdfast.target import dead_man

FOLDER: Final = "/run/holdfast/standby"

TIMEOUT_S: Final = 60
PUT_S: Final = 600
# Below this, a command line is what every boot loader takes; the kernel's own limit on x86 is 2048 bytes.
MAX_COMMAND_LINE: Final = 2000
_SHOWN: Final = 300


def wanted(host: Host) -> bool:
    """Say whether the host is to have a standby; the standard way's installer would not come back on the tailnet."""
    return host.standby and host.way is Way.TAILSCALE


def bring(
    reconnect: Callable[[], Connection],
    host: Host,
    image: Path,
    facts: Facts,
    *,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None] | None = None,
) -> str:
    """Bring the image's kernel and initrd into the installer's RAM, while the origin is still whole.

    The dead-man stays armed, and is fed while this makes progress.

    Args:
        reconnect: opens a connection to the installer; called again whenever the link broke.
        host: the host.
        image: the kexec image that the installer was started from.
        facts: what the installer answered.
        on_line: called with what happens to the link.
        on_progress: called with the bytes that are there and the bytes in all, for each of the two files.

    Returns:
        Why there can be no standby; empty if all is there.

    """
    if facts.kexec.secure_boot:
        return "Secure Boot is on, and the boot loader of a standby is not signed"
    try:
        with tempfile.TemporaryDirectory(prefix="holdfast-standby-") as folder:
            files, command_line = _unpack(image, Path(folder))
            size = sum(file.stat().st_size for file in files)
            if why := _too_little_memory(size, facts.available_bytes):
                return why
            with reconnect() as target:
                room = script("installer/standby-make-room.sh")
                argv = ["sh", "-c", room, "standby-make-room.sh", FOLDER, str(size + 16 * MIB)]
                target.run(argv, timeout_s=TIMEOUT_S)
                target.write_file(
                    f"{FOLDER}/command-line", f"{command_line}\n".encode(), mode=0o600, timeout_s=TIMEOUT_S
                )
            for file in files:
                _upload(reconnect, host, file, facts, on_line, on_progress)
    except HoldfastError as error:
        return error.message
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        return f"{image} could not be unpacked: {str(error)[:_SHOWN] or type(error).__name__}"
    return ""


def arm(target: Connection, root: str) -> str:
    """Make the new disk boot the installer, from what `bring` brought; the RAM that it took is given back.

    Args:
        target: a connection to the installer.
        root: where the new root is mounted, with this plan's mark.

    Returns:
        Why the disk does not boot the installer; empty if it does.

    """
    try:
        said = _said(target, "put", root, FOLDER)
        argv = ["sh", "-c", script("installer/standby-give-back.sh"), "standby-give-back.sh", FOLDER]
        target.run(argv, timeout_s=TIMEOUT_S, check=False)
    except HoldfastError as error:
        return error.message
    return _why_not_armed(said)


def missing(target: Connection, root: str) -> str:
    """Return why the disk at `root` does not boot the standby; empty if it does. Raises as Connection.run_script."""
    try:
        said = _said(target, "show", root)
    except CommandFailed as error:
        return error.message
    return _why_not_armed(said)


def remove(target: Connection, root: str) -> str:
    """Take the standby away, with the secrets in it: the final system's boot loader is in place.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.

    Returns:
        Why it is still there; empty if none is.

    """
    try:
        said = _said(target, "remove", root)
    except HoldfastError as error:
        return error.message
    return "" if said.startswith(("removed: ", "none: ")) else said


def _why_not_armed(said: str) -> str:
    return "" if said.startswith("armed: ") else said.removeprefix("none: ")


def _said(target: Connection, *words: str) -> str:
    """Run the script, and return the line that it ends with."""
    done = target.run_script(script("any/standby.sh"), words, timeout_s=PUT_S)
    return printable((done.stdout.strip().splitlines() or ["it said nothing"])[-1])[:_SHOWN]


def _too_little_memory(size_bytes: int, available_bytes: int) -> str:
    needed = size_bytes * 3 // 2 + 256 * MIB
    if available_bytes >= needed:
        return ""
    return f"the installer has {available_bytes // MIB} MiB of memory left, and {needed // MIB} are needed"


def _upload(
    reconnect: Callable[[], Connection],
    host: Host,
    file: Path,
    facts: Facts,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Upload a file in parts that are shorter than the dead-man's time, and feed it before each."""
    mark = facts.installer_mark
    dead_man_s = (mark and mark.dead_man_s) or host.deadlines.dead_man_s
    deadline = Deadline.after(host.deadlines.upload_s)
    while True:
        with reconnect() as target:
            dead_man.feed(target)
        try:
            upload_over_links(
                reconnect,
                file,
                f"{FOLDER}/{file.name}",
                timeout_s=min(dead_man_s / 2, deadline.left_s()),
                on_line=on_line,
                on_progress=on_progress,
            )
        except DeadlinePassed:
            if deadline.passed():
                raise
        else:
            return


def _unpack(image: Path, folder: Path) -> tuple[list[Path], str]:
    """Write kernel and initrd of the image into the folder, and return them with the kernel's command line.

    Raises:
        ConfigError: the image lacks a part, or its `kexec/run` is not Holdfast's.
        tarfile.TarError, OSError, EOFError: it cannot be read, or there is no room.

    """
    names = {"kexec/bzImage": folder / "kernel", "kexec/initrd": folder / "initrd"}
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
    if missing := [name for name, path in names.items() if not path.is_file()]:
        raise ConfigError(f"{image} has no {', no '.join(missing)}.")
    return list(names.values()), _command_line(image, runner)


def _command_line(image: Path, runner: str) -> str:
    """Return what `kexec/run` (nix/scripts/origin/kexec-run.sh) tells the kernel: two variables in double quotes."""
    found = [re.search(rf'^{name}="(.*)"$', runner, re.MULTILINE) for name in ("init", "kernel_params")]
    values = [re.sub(r'\\([\\"$`])', r"\1", match[1]) for match in found if match]
    if len(values) != len(found):
        raise ConfigError(f"the kexec/run of {image} is not Holdfast's, so its kernel's command line is not known.")
    line = f"init={values[0]} {values[1]}"
    if not line.isprintable() or len(line.encode()) > MAX_COMMAND_LINE:
        raise ConfigError(f"the kernel's command line in {image} is too long for a boot loader, or is no text.")
    return line
