"""The running system of a target: its name, its boot and its firmware."""

import re
from typing import Final, Literal

from holdfast.facts.bounded import clean, split_lines

# `efi32` is a UEFI that starts 32-bit programs only, whatever the processor; `other` is a board with neither.
Firmware = Literal["efi", "efi32", "bios", "other"]
UEFI: Final = ("efi", "efi32")


def parse_boot_id(text: str) -> str:
    """Return the boot ID. Raises ValueError if it is invalid."""
    if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text.strip()):
        raise ValueError("the boot ID is invalid")
    return text.strip()


def parse_firmware(text: str) -> Firmware:
    """Return how the machine starts systems, from what facts.sh says: `efi 64`, `efi 32`, `efi`, `bios` or `other`."""
    match text.split():
        case ["efi", "32"]:
            return "efi32"
        case ["efi", *_]:
            return "efi"
        case ["bios"]:
            return "bios"
    return "other"


def parse_store_path(text: str) -> str:
    """Return the path if it is in the Nix store, else an empty text."""
    match = re.fullmatch(r"/nix/store/[0-9a-z]{32}-[A-Za-z0-9+._?=-]{1,211}", text.strip())
    return match[0] if match else ""


def parse_os_release(text: str) -> dict[str, str]:
    """Parse os-release(5)."""
    found = {}
    for line in split_lines(text):
        key, _, value = line.partition("=")
        found[key.strip()] = clean(value.strip().strip("\"'"))
    return found
