"""The firmware's boot order at the first boot from the disk (nix/scripts/any/efi-boot.sh), where it is UEFI.

Until that boot is proved, the standby stays the first that the firmware starts, and the new system is started once. So
a boot loader that does not start what its trial has proved costs a reboot into the installer.
"""

from collections import defaultdict
from typing import Final

from holdfast.base.errors import ConnectionLost, HoldfastError
from holdfast.base.settings import script
from holdfast.base.text import printable
from holdfast.facts.bounded import split_lines
from holdfast.facts.efi import EfiFacts, parse_efi
from holdfast.ssh.connection import Connection

# A firmware may take a second for each variable that is written.
ORDER_S: Final = 120
# What `settle` says if it had nothing to do.
NO_ENTRY: Final = "settled: the firmware has no entry of the standby"
_SHOWN: Final = 300
_NUMBERS: Final = {"BootCurrent": "boot_current", "BootNext": "boot_next", "BootOrder": "boot_order"}


class NotKept(HoldfastError):
    """The firmware's order does not lead back to the standby. The user need not do anything: it is removed then."""


class OrderStays(HoldfastError):
    """The firmware still has the standby in its order: the user runs the phase again, or removes the entry."""


def show(target: Connection, root: str) -> tuple[EfiFacts, str]:
    """Return the firmware's entries, and why the first of them is not the standby; empty if it is.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.

    Raises:
        CommandFailed: the script failed. Otherwise as Connection.run_script.

    """
    seen, said = _said(target, "show", root)
    return seen, "" if said.startswith("kept: ") else said.removeprefix("none: ")


def keep(target: Connection, root: str, *, new_system: bool) -> str:
    """Make the standby the first that the firmware starts, and read that back.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.
        new_system: whether the new system, whose boot loader is installed, comes before it, once.

    Returns:
        What the firmware starts now, in words.

    Raises:
        NotKept: the firmware, or the disk, does not allow that; the message says why. Nothing of it is left.
        ConnectionLost: the link broke, so that is unknown.

    """
    try:
        _, said = _said(target, "keep", root, *(["next"] if new_system else []))
    except ConnectionLost:
        raise
    except HoldfastError as error:
        raise NotKept(error.message) from error
    if not said.startswith("kept: "):
        raise NotKept(said.removeprefix("none: "))
    return said.removeprefix("kept: ")


def settle(target: Connection, root: str, *, booted: bool) -> tuple[EfiFacts, bool]:
    """Put the new system first for good, and take the standby's entry out of the firmware. The others keep their order.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.
        booted: whether the firmware has started the final system that runs there.

    Returns:
        The firmware's entries now, and whether it had one of the standby.

    Raises:
        OrderStays: a part of it was not done; the message says why.
        CommandFailed: the script failed. Otherwise as Connection.run_script.

    """
    now, said = _said(target, "settle", root, *(["booted"] if booted else []))
    if not said.startswith("settled: "):
        raise OrderStays(said.removeprefix("none: "))
    return now, said != NO_ENTRY


def parse_said(output: str) -> tuple[EfiFacts, str]:
    """Parse what the script printed: the firmware's entries, and the last line, as printable text."""
    members: dict[str, str] = defaultdict(str)
    lines = split_lines(output)
    for line in lines[:-1]:
        name, _, value = line.partition(" ")
        if name == "entry":
            members["boot_entries"] += f"{value}\n"
        elif name in _NUMBERS:
            members[_NUMBERS[name]] = value
    return parse_efi(members), printable((lines or ["efi-boot.sh printed nothing"])[-1])[:_SHOWN]


def _said(target: Connection, *words: str) -> tuple[EfiFacts, str]:
    return parse_said(target.run_script(script("any/efi-boot.sh"), words, timeout_s=ORDER_S).stdout)
