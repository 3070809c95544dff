"""The trial: the first start of the final system, by kexec, while the disk still boots the standby.

So a system that does not come up costs a reboot into the installer, and not a way to the machine. It needs no help of
the system, nor of its boot loader (nix/scripts/installer/load-final.sh).
"""

from collections.abc import Callable
from typing import Final

from holdfast.base.places import NEW_ROOT, TRIAL_WATCH
from holdfast.base.settings import script
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host
from holdfast.ssh.connection import Connection
from holdfast.target import standby
from holdfast.target.mounting import leave_installer

# What reboots into the standby unless it is stopped.

LOAD_S: Final = 300
STOP_S: Final = 60


def why_not(target: Connection, host: Host, facts: Facts) -> str:
    """Return why the final system is not tried before its boot loader is installed; empty if it will be.

    Args:
        target: a connection to the installer, where the new root is mounted.
        host: the host.
        facts: what the installer answered.

    Raises:
        ConnectionLost: the link broke, so it is not known.

    """
    if not standby.wanted(host):
        return "no standby is asked for"
    if facts.kexec.disabled:
        return "the installer's kernel does not load another one"
    if target.run(["sh", "-c", "command -v kexec"], timeout_s=STOP_S, check=False).exit_status:
        return "the installer has no kexec"
    return standby.why_missing(target, NEW_ROOT)


def begin(target: Connection, toplevel: str, *, watch_s: float, on_line: Callable[[str], None]) -> None:
    """Leave the installer for the final system; the connection ends well, two seconds before that.

    Args:
        target: a connection to the installer, where the new root is mounted.
        toplevel: store path of the system.
        watch_s: seconds after which the machine goes back to the installer, unless `end_watch` was called.
        on_line: called with each line that the scripts print.

    Raises:
        CommandFailed: its kernel could not be loaded, or the new root is busy.

    """
    target.run_script(
        script("installer/load-final.sh"), [NEW_ROOT, toplevel, f"{watch_s:.0f}"], timeout_s=LOAD_S, on_line=on_line
    )
    leave_installer(target, "kexec", on_line=on_line)


def end_watch(target: Connection) -> None:
    """Let the final system stay: it is what was installed. Raises as Connection.run."""
    target.run(["systemctl", "stop", TRIAL_WATCH], timeout_s=STOP_S, check=False)
