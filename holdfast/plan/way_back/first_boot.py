"""What leads back at the first boot from the disk, if the new boot loader does not start the new system."""

from collections.abc import Iterator
from typing import Final

from holdfast.facts.efi import EfiFacts
from holdfast.inventory.host import Host, Way
from holdfast.plan.way_back.row import Verdict, WayBackRow

_SHOWN: Final = 6
_NOTHING: Final = (
    "nothing leads back from the first boot: if the boot loader does not start what the trial has proved, somebody has"
    " to go to the machine"
)


def first_boot_rows(efi: EfiFacts, host: Host) -> Iterator[WayBackRow]:
    """Yield what leads back from the first boot of the final system.

    Args:
        efi: the firmware's entries, as the origin sees them.
        host: the host.

    """
    if host.way is Way.STANDARD or efi.variables == "unknown":
        return
    why = _why_not(efi, host)
    yield WayBackRow(
        subject="first boot",
        seen=why or f"the firmware is UEFI, and takes an order: {_order(efi)}",
        means=_NOTHING
        if why
        else "if the disk gets a standby, that stays the first to be started until verify has proved the new system: a"
        " power cycle leads to the installer",
        verdict=Verdict.UNPROVED if why else Verdict.FINE,
    )


def _why_not(efi: EfiFacts, host: Host) -> str:
    """Return why nothing leads back; empty if something does."""
    if not host.standby:
        return "the inventory wants no standby"
    if efi.variables == "none":
        return "the firmware is no UEFI, so the disk has one boot loader: the standby's, and then the new system's"
    if efi.bits == 32:
        return "the firmware is a UEFI of 32 bit, which starts no standby of 64 bit"
    if efi.variables == "ro":
        return "the firmware's order of systems cannot be written"
    return ""


def _order(efi: EfiFacts) -> str:
    shown = [f"{entry.describe()} ({entry.kind})" for entry in efi.in_order]
    if efi.variables == "unmounted":
        return "it is not mounted in the origin"
    more = [f"{len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
    return ", ".join([*shown[:_SHOWN], *more]) or "it has none yet"
