"""The new root: mounting it again in the installer, and leaving the installer for good."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final, Literal

from holdfast.base.errors import CommandFailed, UnexpectedState
from holdfast.base.log import Log
from holdfast.base.places import NEW_ROOT
from holdfast.base.settings import script
from holdfast.facts.facts import Facts
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built
from holdfast.plan.same import found_disks
from holdfast.ssh.connection import Connection
from holdfast.target.building import bring
from holdfast.target.machine import Machine
from holdfast.target.secrets import keys_in_ram

PROBE_S: Final = 30
MOUNT_S: Final = 300
LEAVE_S: Final = 120


def mount_again(machine: Machine, target: Connection, built: Built, plan: Plan, facts: Facts) -> None:
    """Mount the new root if it is not mounted. For that, the installer gets the mount script and the encryption keys.

    Args:
        machine: the machine.
        target: a connection to the installer.
        built: what was built for the plan.
        plan: the plan whose disks are formatted.
        facts: what the installer answered.

    Raises:
        UnexpectedState, CommandFailed: see ensure_mounted and building.bring.
        ConfigError, CommandFailed: see keys_in_ram.

    """
    if is_mounted(target):
        return
    if built.mount_script:
        bring(machine, built, [built.mount_script])
    with keys_in_ram(machine.host, lambda: nullcontext(target), machine.log, most_s=MOUNT_S):
        disks = [disk.path for disk in found_disks((*plan.wipe, *plan.reuse), facts)]
        _mount(target, machine.host.name, built.mount_script, disks, machine.log)


def _mount(target: Connection, host: str, mount_script: str, disks: Sequence[str], log: Log) -> None:
    """Mount the new root with the flake's mountScript.

    The new system uses its ZFS pools in its trial, and cannot export that of its root. If the trial is cut short, they
    do not import without force, and so disko's mountScript fails. Then they are released, and the script runs again.

    Args:
        target: a connection to the installer.
        host: the host's name, for the message.
        mount_script: path of the script in the installer's store; empty if the flake has none.
        disks: the device files of the disks that the new system is on.
        log: takes which pools are released, and why others are not.

    Raises:
        UnexpectedState: there is no script, or the script mounted nothing there.
        CommandFailed: the script failed.

    """
    if not mount_script:
        raise UnexpectedState(
            f"the new root of {host} is not mounted at {NEW_ROOT}, and the flake has no mountScript.",
            hint="Mount it by hand in the installer, then retry the run.",
        )
    try:
        target.run([mount_script], timeout_s=MOUNT_S)
    except CommandFailed:
        release = script("installer/release-pools.sh")
        released = target.run_script(release, disks, timeout_s=MOUNT_S, on_line=log.line).stdout
        if not released:
            raise
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
