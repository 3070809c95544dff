"""The trial: the first start of the final system, by kexec, while the disk still boots the standby.

So a system that does not come up costs a reboot into the installer, and the machine stays reachable. The trial does not
depend on the final system or its boot loader (nix/scripts/installer/load-final.sh).
"""

from typing import Final

from holdfast.base.log import Log
from holdfast.base.places import NEW_ROOT, TRIAL_WATCH
from holdfast.base.settings import script
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host
from holdfast.ssh.connection import Connection
from holdfast.target import first_boot, standby
from holdfast.target.mounting import leave_installer

LOAD_S: Final = 300
ASK_S: Final = 60


def why_not(target: Connection, host: Host, facts: Facts, log: Log) -> str:
    """Return why the final system gets no trial before its boot loader is installed; empty if it gets one.

    Args:
        target: a connection to the installer, where the new root is mounted.
        host: the host.
        facts: what the installer answered.
        log: takes what was done to the firmware's order.

    Raises:
        ConnectionLost: the link broke, so that is unknown.

    """
    if not standby.wanted(host):
        return "this host gets no standby (`standby` in the inventory, or the standard way)"
    if facts.kexec.disabled:
        return "the installer's kernel refuses to load another one"
    if target.run(["sh", "-c", "command -v kexec"], timeout_s=ASK_S, check=False).exit_status:
        return "the installer has no kexec"
    missing = standby.why_missing(target, NEW_ROOT)
    # Once the new system has its boot loader, only the firmware's own order leads to the standby.
    beside = missing == standby.OTHER_LOADER
    return "" if beside and first_boot.guard(target, NEW_ROOT, facts, log) else missing


def begin(target: Connection, toplevel: str, log: Log, *, watch_s: float) -> None:
    """Leave the installer for the final system. A delay of two seconds lets this command finish first.

    Args:
        target: a connection to the installer, where the new root is mounted.
        toplevel: store path of the final system.
        log: takes each line that the scripts print.
        watch_s: seconds after which the machine reboots into the installer, unless `end_watch` was called.

    Raises:
        CommandFailed: its kernel could not be loaded, or the new root is busy.

    """
    target.run_script(
        script("installer/load-final.sh"), [NEW_ROOT, toplevel, f"{watch_s:.0f}"], timeout_s=LOAD_S, on_line=log.line
    )
    leave_installer(target, "kexec", log)


def end_watch(target: Connection) -> None:
    """Stop the watch that would reboot into the standby: the trial has succeeded. Raises as Connection.run."""
    target.run(["systemctl", "stop", TRIAL_WATCH], timeout_s=ASK_S, check=False)
