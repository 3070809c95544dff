"""The new root: where it is mounted, how it is mounted again and left, and the marks that say it is this plan's."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Final, Literal

from holdfast.base.errors import UnexpectedState
from holdfast.base.places import NEW_ROOT
from holdfast.base.settings import script
from holdfast.plan.results import Built
from holdfast.ssh.connection import Connection
from holdfast.target.machine import Machine
from holdfast.target.secrets import keys_in_ram

PROBE_S: Final = 30
MOUNT_S: Final = 300
LEAVE_S: Final = 120


def mount_again(machine: Machine, target: Connection, built: Built) -> None:
    """See that the new root is mounted; an installer that was booted anew gets the script and the keys for it first.

    Raises:
        UnexpectedState, CommandFailed: see ensure_mounted and Machine.copy.
        ConfigError, CommandFailed: see keys_in_ram.

    """
    if is_mounted(target):
        return
    if built.mount_script:
        machine.copy([built.mount_script])
    with keys_in_ram(machine.host, lambda: nullcontext(target), machine.log):
        ensure_mounted(target, machine.host.name, built.mount_script)


def ensure_mounted(target: Connection, host: str, mount_script: str) -> None:
    """See that the new root is mounted; mount it with the flake's mountScript if it is not.

    Args:
        target: a connection to the installer.
        host: the host's name, for the message.
        mount_script: store path of the script, which is in the installer's store; may be empty.

    Raises:
        UnexpectedState: nothing is mounted, and there is no script that would.
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
            f"{mount_script} ended well on {host}, but nothing is mounted at {NEW_ROOT}.",
            hint="Look at the file systems of the disko configuration: one has to be mounted at /.",
        )


def is_mounted(target: Connection) -> bool:
    """Say whether the new root is mounted."""
    return target.run(["mountpoint", "-q", NEW_ROOT], timeout_s=PROBE_S, check=False).exit_status == 0


def leave_installer(target: Connection, how: Literal["reboot", "kexec"], *, on_line: Callable[[str], None]) -> None:
    """Unmount the new root, if it is mounted, and in two seconds reboot, or start what kexec has loaded.

    So this command still ends well.

    Args:
        target: a connection to the installer.
        how: which of the two.
        on_line: called with each line that the script prints.

    Raises:
        CommandFailed: the new root is busy.

    """
    target.run_script(script("installer/leave-installer.sh"), [NEW_ROOT, how], timeout_s=LEAVE_S, on_line=on_line)
