"""The first boot from the disk is a trial too, where the standby can be kept until it is proved.

Where the firmware is UEFI, its order keeps it (boot_order.py); where it is a BIOS, the disk's boot code (boot_code.py).
"""

from typing import Final

from holdfast.base.errors import CommandFailed, ConnectionLost
from holdfast.base.log import Log
from holdfast.facts.efi import EfiFacts
from holdfast.facts.facts import Facts
from holdfast.facts.system import UEFI
from holdfast.ssh.connection import Connection
from holdfast.target import boot_code, boot_order, standby

BIOS: Final = "bios"
NOTHING_LEADS_BACK: Final = "nothing leads back from the first boot"


def leads_back(target: Connection, root: str, facts: Facts) -> bool:
    """Return whether the disk starts the standby, unless it is told once to start the new system.

    By BIOS, only if the new system's boot loader was installed: it waits beside the standby.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.
        facts: what it answered.

    """
    try:
        if facts.firmware in UEFI:
            return not boot_order.show(target, root)[1]
        return facts.firmware == BIOS and not boot_code.why_not_kept(target, root)
    except CommandFailed:
        return False


def guard(target: Connection, root: str, facts: Facts, log: Log) -> bool:
    """Let the machine start the standby first: a UEFI's own order may have the network first.

    By BIOS, a boot loader that the new system has put there already gives way. The install does not depend on it: a
    machine where that cannot be starts the disk as it always does.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.
        facts: what it answered.
        log: takes what was done.

    Returns:
        Whether it does so.

    """
    if facts.firmware not in (*UEFI, BIOS):
        return False
    uefi = facts.firmware in UEFI
    what = "the firmware's order" if uefi else "the disk's boot code"
    try:
        log.say(f"{what}: {_keep(target, root, uefi=uefi, new_system=False)}")
    except (boot_order.NotKept, ConnectionLost) as error:
        log.say(f"{what} stays as it is: {error.message}")
        return False
    return True


def prepare(target: Connection, log: Log, *, uefi: bool) -> bool:
    """Let the machine start the new system once and then the standby; where it cannot, remove the standby.

    Args:
        target: a connection to the final system, whose boot loader is installed.
        log: takes what was done, and why nothing leads back.
        uefi: whether the machine's firmware is UEFI.

    Returns:
        Whether the standby stays.

    Raises:
        ConnectionLost: the link broke, so that is unknown: it is no reason to remove the standby.

    """
    try:
        kept = _keep(target, "/", uefi=uefi, new_system=True)
    except boot_order.NotKept as error:
        log.warn(f"{NOTHING_LEADS_BACK}: {error.message}")
    else:
        log.say(f"the standby stays until the first boot is proved: {kept}")
        return True
    try:
        if not uefi:
            boot_code.settle(target, "/")
        standby.remove(target, "/")
    except standby.StandbyStays as error:
        log.warn(f"the standby is still on the boot partition, with the node's state in it: {error.message}")
    return False


def finish(target: Connection, root: str, facts: Facts, log: Log, *, booted: bool) -> EfiFacts | None:
    """Put the new system first for good, and then remove the standby with its entry. Can be repeated.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.
        facts: what it answered.
        log: takes what was done.
        booted: whether the final system that runs there was started by its boot loader.

    Returns:
        The firmware's entries now; None without UEFI, or if they are unknown.

    Raises:
        StandbyStays: a part of the standby is still on the disk, or the disk starts it.
        ConnectionLost: the link broke, so that is unknown.

    """
    now, had_entry = None, False
    if facts.firmware in UEFI:
        try:
            now, had_entry = boot_order.settle(target, root, booted=booted)
        except (boot_order.OrderStays, CommandFailed) as error:
            log.warn(f"the firmware's order is not as it should be: {error.message} Look at it with `efibootmgr`.")
    elif facts.firmware == BIOS:
        boot_code.settle(target, root)
    removed = standby.remove(target, root)
    if removed and now and booted and not had_entry:
        log.warn("the firmware had no entry of the standby any more: it does not keep what it is told")
    if had_entry or removed:
        log.say("the standby is removed: from now on the disk starts the new system only")
    return now


def _keep(target: Connection, root: str, *, uefi: bool, new_system: bool) -> str:
    keep = boot_order.keep if uefi else boot_code.keep
    return keep(target, root, new_system=new_system)
