"""File systems that the origin's boot may stop at."""

from collections.abc import Mapping
from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, first_word, number, split_lines

MAX_MOUNTS: Final = 256


class FstabLine(Frozen):
    """A line of fstab(5).

    Attributes:
        device: the device, as it is named there.
        place: its mount point.
        type: the type of the file system.
        options: those of its options that decide whether the boot waits for it: `nofail`, `noauto`, `ro`, …
        there: whether the device exists now; None if that cannot be told.

    """

    device: str
    place: str
    type: str
    options: tuple[str, ...] = ()
    there: bool | None = None


class Mounted(Frozen):
    """A mounted file system.

    Attributes:
        place: its mount point.
        type: its type.
        read_only: whether the file system itself is read-only.
        device: the kernel's name of its device.

    """

    place: str
    type: str
    read_only: bool
    device: str = ""


class FileSystemFacts(Frozen):
    """File systems that the boot may stop at.

    Attributes:
        fstab: the lines of fstab.
        mounts: the mounted file systems on disks.
        errors: the file systems and arrays that have counted errors: type, name, number.
        of_state: the type of the file system that the Tailscale state lies on; `lbu` if it is in RAM and Alpine's
            lbu keeps it; empty if unknown.
        hibernation: the swap devices that hold the image of a hibernation, and whether the boot would resume it.

    """

    fstab: tuple[FstabLine, ...] = ()
    mounts: tuple[Mounted, ...] = ()
    errors: tuple[tuple[str, str, int], ...] = ()
    of_state: str = ""
    hibernation: tuple[tuple[str, bool], ...] = ()


def parse_file_systems(said: Mapping[str, str]) -> FileSystemFacts:
    """Parse what way-back.sh says of file systems."""
    fstab, mounts, errors = [], [], []
    for line in split_lines(said["fstab"])[:MAX_MOUNTS]:
        match [clean(word) for word in line.split(" ")]:
            case [device, place, kind, options, state]:
                there = {"here": True, "missing": False}.get(state)
                kept = tuple(option for option in options.split(",") if option != "-")
                fstab.append(FstabLine(device=device, place=place, type=kind, options=kept, there=there))
    for line in split_lines(said["mounts"])[:MAX_MOUNTS]:
        match [clean(word) for word in line.split(" ")]:
            case [place, kind, state, device]:
                mounts.append(Mounted(place=place, type=kind, read_only=state == "ro", device=device))
    for line in split_lines(said["errors"])[:MAX_ITEMS]:
        match line.split(" "):
            case [kind, name, count] if number(count):
                errors.append((clean(kind), clean(name), number(count)))
    images: dict[str, bool] = {}
    for line in split_lines(said["hibernation"])[:MAX_ITEMS]:
        device, _, use = line.partition(" ")
        images[clean(device)] = images.get(clean(device), False) or use == "resumed"
    return FileSystemFacts(
        fstab=tuple(fstab),
        mounts=tuple(mounts),
        errors=tuple(errors),
        of_state=first_word(said["state_file_system"]),
        hibernation=tuple(images.items()),
    )
