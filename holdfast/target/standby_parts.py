"""What a standby is made of: parts of the kexec image, and the command line that its `kexec/run` names."""

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.base.errors import ConfigError
from holdfast.base.size import MIB
from holdfast.plan.image import MAX_RUN_BYTES
from holdfast.target.one_program import one_program

# Every boot loader takes a command line of this length; the kernel's own limit on x86 and ARM is 2048 bytes.
MAX_COMMAND_LINE: Final = 2000


@dataclass(frozen=True, slots=True)
class Program:
    """The starter with its kernel as one EFI program (one_program.py).

    Attributes:
        file: the program.
        head: what comes before the starter in it.
        gap_bytes: zero bytes between starter and kernel.
        tail_bytes: zero bytes after the kernel.

    """

    file: Path
    head: bytes
    gap_bytes: int
    tail_bytes: int


@dataclass(frozen=True, slots=True)
class Parts:
    """What a standby is made of.

    Attributes:
        command_line: the kernel's.
        files: files of the image; each has the name that it gets there.
        program: made of two of the files, for UEFI; None if they go to the disk as they are.

    """

    command_line: str
    files: tuple[Path, ...]
    program: Program | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """All files that are in the installer's RAM at the end."""
        return (*self.files, *([self.program.file] if self.program else []))


def unpack(image: Path, folder: Path, firmware: str) -> Parts:
    """Write what the standby needs of the image into the folder.

    That is kernel and initrd and, if the image has one, the starter: for UEFI also as one program, standby.efi.

    Args:
        image: the kexec image.
        folder: an empty folder.
        firmware: `bios` or `efi`, as in Facts.

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
        return Parts(line, (kernel, initrd))
    if firmware == "bios":
        return Parts(line, (kernel, initrd, starter))
    if not stub.is_file():
        return Parts(line, (kernel, initrd))
    return Parts(line, (kernel, initrd, starter), _program(stub, starter, kernel, line, folder / "standby.efi"))


def _program(stub: Path, starter: Path, kernel: Path, line: str, file: Path) -> Program:
    first, second = starter.read_bytes(), kernel.read_bytes()
    content = one_program(stub.read_bytes(), command_line=line, initrd=first, kernel=second)
    file.write_bytes(content)
    kernel_at = content.rindex(second)
    starter_at = content.rindex(first, 0, kernel_at)
    return Program(
        file=file,
        head=content[:starter_at],
        gap_bytes=kernel_at - starter_at - len(first),
        tail_bytes=len(content) - kernel_at - len(second),
    )


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
