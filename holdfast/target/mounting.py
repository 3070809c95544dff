"""The new root: mounting it again in the installer, and leaving the installer for good."""

from contextlib import nullcontext
from typing import Final, Literal

from holdfast.base.errors import UnexpectedState
from holdfast.base.log import Log
from holdfast.base.places import NEW_ROOT
from holdfast.base.settings import script
from holdfast.plan.results import Built
from holdfast.ssh.connection import Connection
from holdfast.target.building import bring
from holdfast.target.machine import Machine
from holdfast.target.secrets import keys_in_ram

PROBE_S: Final = 30
MOUNT_S: Final = 300
LEAVE_S: Final = 120


def mount_again(machine: Machine, target: Connection, built: Built) -> None:
    """Mount the new root if it is not mounted. For that, the installer gets the mount script and the encryption keys.

    Raises:
        UnexpectedState, CommandFailed: see ensure_mounted and building.bring.
        ConfigError, CommandFailed: see keys_in_ram.

    """
    if is_mounted(target):
        return
    if built.mount_script:
        bring(machine, built, [built.mount_script])
    with keys_in_ram(machine.host, lambda: nullcontext(target), machine.log, most_s=MOUNT_S):
        ensure_mounted(target, machine.host.name, built.mount_script)


def ensure_mounted(target: Connection, host: str, mount_script: str) -> None:
    """Mount the new root with the flake's mountScript if it is not mounted.

    Args:
        target: a connection to the installer.
        host: the host's name, for the message.
        mount_script: path of the script in the installer's store; empty if the flake has none.

    Raises:
        UnexpectedState: nothing is mounted and there is no script, or the script mounted nothing there.
        CommandFailed: the script failed.

    """
    if is_mounted(target):
        return
    if not mount_script:
        raise UnexpectedState(
            f"the new root of {host} is not mounted at {NEW_ROOT}, and the flake has no mountScript.",
            hint="Mount it by hand in the installer, then retry the run.",
        )
    target.run([mount_script], timeout_s=MOUNT_S)
    if not is_mounted(target):
        raise UnexpectedState(
            f"{mount_script} succeeded on {host}, but nothing is mounted at {NEW_ROOT}.",
            hint="Look at the file systems of the disko configuration: one has to be mounted at /.",
        )


def is_mounted(target: Connection) -> bool:
    """Return whether the new root is mounted."""
    return target.run(["mountpoint", "-q", NEW_ROOT], timeout_s=PROBE_S, check=False).exit_status == 0


def leave_installer(target: Connection, how: Literal["reboot", "kexec"], log: Log) -> None:
    """Unmount the new root, if it is mounted. Two seconds later, reboot or start the kernel that kexec has loaded.

    The delay lets this command finish first.

    Args:
        target: a connection to the installer.
        how: `reboot`, or `kexec` for the loaded kernel.
        log: takes each line that the script prints.

    Raises:
        CommandFailed: the new root is busy.

    """
    target.run_script(script("installer/leave-installer.sh"), [NEW_ROOT, how], timeout_s=LEAVE_S, on_line=log.line)
