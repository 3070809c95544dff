"""A disk's boot code at the first boot from it (nix/scripts/any/bios-boot.sh), where the firmware is a BIOS.

If the new boot loader is GRUB, the disk starts the standby until that boot is proved, and the new system once before.
"""

from typing import Final

from holdfast.base.errors import CommandFailed, ConnectionLost, HoldfastError
from holdfast.base.settings import script
from holdfast.base.text import printable
from holdfast.ssh.connection import Connection
from holdfast.target.boot_order import NotKept
from holdfast.target.standby import StandbyStays

# A few sectors are written, and each has to be on the disk before the next.
CODE_S: Final = 120
_SHOWN: Final = 300


def why_not_kept(target: Connection, root: str) -> str:
    """Return why no standby waits behind the new system; empty if one does.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.

    Raises:
        CommandFailed: the script failed. Otherwise as Connection.run_script.

    """
    said = _said(target, "show", root)
    return "" if said.startswith("kept: ") else said.removeprefix("none: ")


def keep(target: Connection, root: str, *, new_system: bool) -> str:
    """Make the disk start the standby, and read that back.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.
        new_system: whether the new system, whose boot loader is installed, is started before it, once.

    Returns:
        What the disk starts now, in words.

    Raises:
        NotKept: that cannot be; the message says why. `settle` puts right what was begun.
        ConnectionLost: the link broke, so that is unknown.

    """
    try:
        said = _said(target, "keep", root, *(["next"] if new_system else []))
    except CommandFailed as error:
        raise NotKept(error.message) from error
    if not said.startswith("kept: "):
        raise NotKept(said.removeprefix("none: "))
    return said.removeprefix("kept: ")


def settle(target: Connection, root: str) -> None:
    """Make the disk start the new system for good. Only then may the standby be removed: else it would start nothing.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.

    Raises:
        StandbyStays: the disk may still start the standby; the message says why.
        ConnectionLost: the link broke, so that is unknown.

    """
    try:
        said = _said(target, "settle", root)
    except ConnectionLost:
        raise
    except HoldfastError as error:
        raise StandbyStays(error.message) from error
    if not said.startswith("settled: "):
        raise StandbyStays(said.removeprefix("none: "))


def _said(target: Connection, *words: str) -> str:
    """Run the script and return the last line that it prints."""
    done = target.run_script(script("any/bios-boot.sh"), words, timeout_s=CODE_S)
    return printable((done.stdout.strip().splitlines() or ["bios-boot.sh printed nothing"])[-1])[:_SHOWN]
