"""What leads back at the first boot from the disk, if the new boot loader does not start the new system."""

from collections.abc import Iterator
from typing import Final

from holdfast.facts.efi import EfiFacts
from holdfast.inventory.host import Host, Way
from holdfast.plan.configuration import Configuration
from holdfast.plan.way_back.row import Verdict, WayBackRow

_SHOWN: Final = 6
_NOTHING: Final = (
    "nothing leads back from the first boot: if the boot loader does not start what the trial has proved, somebody has"
    " to go to the machine"
)
_KEPT: Final = (
    "if the disk gets a standby, that stays the first to be started until verify has proved the new system: a power"
    " cycle leads to the installer"
)
_GRUB: Final = "the firmware is no UEFI, and the new system's boot loader is GRUB, which can wait on the disk"
_WRITTEN: Final = "Only for the moment after GRUB is written, the disk starts GRUB"


def first_boot_rows(efi: EfiFacts, host: Host, configuration: Configuration) -> Iterator[WayBackRow]:
    """Yield what leads back from the first boot of the final system.

    Args:
        efi: the firmware's entries, as the origin sees them.
        host: the host.
        configuration: what the new system's configuration says of its boot loader.

    """
    if host.way is Way.STANDARD or efi.variables == "unknown":
        return
    why = _why_not(efi, host, configuration)
    uefi = efi.variables != "none"
    seen = f"the firmware is UEFI, and takes an order: {_order(efi)}" if uefi else _GRUB
    yield WayBackRow(
        subject="first boot",
        seen=why or seen,
        means=_NOTHING if why else _KEPT if uefi else f"{_KEPT}. {_WRITTEN}",
        verdict=Verdict.UNPROVED if why else Verdict.FINE,
    )


def _why_not(efi: EfiFacts, host: Host, configuration: Configuration) -> str:
    """Return why nothing leads back; empty if something does."""
    if not host.standby:
        return "the inventory wants no standby"
    if efi.variables == "none" and not (configuration.boot_loaders == ("grub",) and configuration.grub.bios):
        loaders = " and ".join(configuration.boot_loaders) or "none that is known"
        return f"the firmware is no UEFI, and the new system's boot loader is {loaders}: only GRUB can wait on the disk"
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
