"""The first boot from the disk is a trial too, where the firmware's order can keep the standby until it is proved."""

from typing import Final

from holdfast.base.errors import CommandFailed, ConnectionLost
from holdfast.base.log import Log
from holdfast.facts.efi import EfiFacts
from holdfast.facts.facts import Facts
from holdfast.facts.system import UEFI
from holdfast.ssh.connection import Connection
from holdfast.target import boot_order, standby

NOTHING_LEADS_BACK: Final = "nothing leads back from the first boot"


def leads_back(target: Connection, root: str, facts: Facts) -> bool:
    """Return whether the firmware starts the standby, unless it is told once to start the new system.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.
        facts: what it answered.

    """
    if facts.firmware not in UEFI:
        return False
    try:
        return not boot_order.show(target, root)[1]
    except CommandFailed:
        return False


def guard(target: Connection, root: str, facts: Facts, log: Log) -> bool:
    """Let the firmware start the standby first, where it is UEFI: its own order may have the network first.

    The install does not depend on it: a firmware without an order of ours starts the disk as it always does.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.
        facts: what it answered.
        log: takes what was done.

    Returns:
        Whether the firmware does so.

    """
    if facts.firmware not in UEFI:
        return False
    try:
        log.say(f"the firmware's order: {boot_order.keep(target, root, new_system=False)}")
    except (boot_order.NotKept, ConnectionLost) as error:
        log.say(f"the firmware keeps its own order: {error.message}")
        return False
    return True


def prepare(target: Connection, log: Log, *, uefi: bool) -> bool:
    """Let the firmware start the new system once and then the standby; where it cannot, remove the standby.

    Args:
        target: a connection to the final system, whose boot loader is installed.
        log: takes what was done, and why nothing leads back.
        uefi: whether the machine's firmware is UEFI.

    Returns:
        Whether the standby stays.

    Raises:
        ConnectionLost: the link broke, so that is unknown: it is no reason to remove the standby.

    """
    if uefi:
        try:
            kept = boot_order.keep(target, "/", new_system=True)
        except boot_order.NotKept as error:
            log.warn(f"{NOTHING_LEADS_BACK}: {error.message}")
        else:
            log.say(f"the standby stays until the first boot is proved: {kept}")
            return True
    try:
        standby.remove(target, "/")
    except standby.StandbyStays as error:
        log.warn(f"the standby is still on the boot partition, with the node's state in it: {error.message}")
    return False


def finish(target: Connection, root: str, facts: Facts, log: Log, *, booted: bool) -> EfiFacts | None:
    """Put the new system first for good, and remove the standby with its entry. Can be repeated.

    Args:
        target: a connection to the installer, or to the final system.
        root: where the new root is mounted; `/` in the final system.
        facts: what it answered.
        log: takes what was done.
        booted: whether the final system that runs there was started by its boot loader.

    Returns:
        The firmware's entries now; None without UEFI, or if they are unknown.

    Raises:
        StandbyStays: a part of the standby is still on the disk.

    """
    now, had_entry = None, False
    if facts.firmware in UEFI:
        try:
            now, had_entry = boot_order.settle(target, root, booted=booted)
        except (boot_order.OrderStays, CommandFailed) as error:
            log.warn(f"the firmware's order is not as it should be: {error.message} Look at it with `efibootmgr`.")
    removed = standby.remove(target, root)
    if removed and now and booted and not had_entry:
        log.warn("the firmware had no entry of the standby any more: it does not keep what it is told")
    if had_entry or removed:
        log.say("the standby is removed: from now on the disk starts the new system only")
    return now
