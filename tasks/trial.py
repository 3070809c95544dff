"""Starts the final system once while the disk still boots the installer, then installs its boot loader.

Under UEFI, and under BIOS with GRUB, the standby stays, for the first boot from the disk is a trial too.
"""

import functools
import re
from typing import Final

from holdfast.base import brake, clock
from holdfast.base.errors import CommandFailed, UnexpectedState
from holdfast.base.places import BOOT_LOADER_UNIT, NEW_ROOT
from holdfast.facts.facts import Facts
from holdfast.facts.system import UEFI
from holdfast.inventory.host import Host
from holdfast.plan.in_use import require_free
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Installed, Tried
from holdfast.plan.stage import Stage, observe
from holdfast.ssh.connection import Connection
from holdfast.target import first_boot, standby
from holdfast.target import trial as first_start
from holdfast.target.final import wait_for_final
from holdfast.target.look import look
from holdfast.target.machine import Machine
from holdfast.target.mounting import mount_again
from holdfast.target.secrets import give_files_their_owners
from tasks.run.log import say, warn
from tasks.run.phase import phase
from tasks.run.this_run import hold_target, machine_of

THEN: Final = (
    "If its kernel panicked, or its systemd (256 or newer) still runs, it returns to the installer by itself. If it"
    " hangs, a power cycle starts the installer from the disk."
)
# What the installers of systemd-boot, GRUB and extlinux print, in one line.
_BOOT_IS_FULL: Final = re.compile(r"/boot\b.*No space left|No space left.*/boot\b")
# What bootctl and efibootmgr print, if the firmware has no room for one more entry.
_FIRMWARE_IS_FULL: Final = re.compile(r"[Bb]oot (?:variable|entry|order).*No space left")
FULL: Final = {"the boot partition": _BOOT_IS_FULL, "the firmware's memory for entries": _FIRMWARE_IS_FULL}
ENVIRONMENT: Final = {"NIXOS_INSTALL_BOOTLOADER": "1"}


@phase("trial", retries=2, until_booted=True)
def trial(host: Host, plan: Plan, built: Built, installed: Installed) -> Tried:
    """Start the final system from the installer by kexec, wait for it on the tailnet, install its boot loader there.

    Until the boot loader is installed, the disk boots the installer. Under UEFI, and under BIOS with GRUB, that stays
    so, but for one start of the new system, until `verify` has proved it.

    Raises:
        UnexpectedState: neither the installer nor the final system runs; or the final system did not come up, and
            the machine is in the installer again; or there is neither a boot loader nor a standby.
        NeverCame: the final system did not answer in time; the message says what was seen.
        NotTrusted: another node, or another host key, answers.
        TargetRefused: another run works on the target, or it came into use since the plan was made.
        CommandFailed: the kernel could not be loaded, or the boot loader could not be installed.
        ConfigError: the final system does not know the owner of one of the user's files.

    """
    left, kexec_at = "", 0.0
    machine = machine_of(host, plan)
    with machine.wait_and_connect() as target:
        facts = look(target)
        stage, why = observe(facts, built.toplevel)
        if stage is Stage.FINAL and not facts.on_trial:
            return Tried(skipped=f"{host.name} runs {why} already")
        if stage not in (Stage.INSTALLER, Stage.FINAL):
            raise UnexpectedState(
                f"{host.name} runs {why}, boot {facts.boot_id}.",
                hint="Look at it, then retry the run: it continues from what it finds there.",
            )
        if stage is Stage.INSTALLER:
            require_free(host, plan, facts)
        hold_target(target, facts)
        if stage is Stage.INSTALLER:
            if no_trial := _begin(machine.on_boot(facts.boot_id), target, plan, built, facts):
                if not installed.boot_loader:
                    raise UnexpectedState(
                        f"{built.toplevel} has no boot loader yet, and a trial is not possible: {no_trial}.",
                        hint="Start a new run: its phase `install` installs the boot loader.",
                    )
                return Tried(skipped=f"there is no trial: {no_trial}")
            left, kexec_at = facts.boot_id, clock.now()
    if left:
        machine.let_go()
    came = wait_for_final(
        machine,
        plan,
        built,
        left=left,
        trial=True,
        # Long enough for a return to the installer: the message says what answers then.
        deadline_s=host.deadlines.reboot_return_s + host.deadlines.kexec_return_s,
        then=THEN,
    )
    away_s = round(came.at - kexec_at, 1) if kexec_at else None
    say(
        f"{host.name} came up in {built.toplevel}; installing its boot loader, at most {host.deadlines.install_s:.0f} s"
    )
    brake.check(fresh=True)  # after the watch, nothing takes it back
    machine = machine.on_boot(came.facts.boot_id)
    with machine.wait_and_connect() as target:
        first_start.end_watch(target)
        give_files_their_owners(target, host)
    _install_boot_loader(machine, plan, built, came.facts)
    return Tried(boot_id=came.facts.boot_id, kexec_at=kexec_at, away_s=away_s)


def _begin(machine: Machine, target: Connection, plan: Plan, built: Built, facts: Facts) -> str:
    """Start the final system's trial. Return why there is none; empty if it was started."""
    mount_again(machine, target, built, plan, facts)
    if why := first_start.why_not(target, machine.host, facts, machine.log):
        return why
    first_boot.guard(target, NEW_ROOT, facts, machine.log)
    say(f"starting {built.toplevel} by kexec; until it has come up, the disk boots the installer")
    watch_s = machine.host.deadlines.reboot_return_s
    first_start.begin(target, built.toplevel, machine.log, watch_s=watch_s)
    return ""


def _install_boot_loader(machine: Machine, plan: Plan, built: Built, facts: Facts) -> None:
    """Let the final system install its boot loader. Keep the standby for the first boot if that can be, or remove it.

    Meanwhile a UEFI starts the standby, whatever the boot loader's installer writes.
    """
    install = functools.partial(
        machine.run_detached,
        f"{BOOT_LOADER_UNIT}{plan.run_id[:8]}",
        [f"{built.toplevel}/bin/switch-to-configuration", "boot"],
        work=f"holdfast boot loader {built.toplevel}",
        timeout_s=machine.host.deadlines.install_s,
        env=ENVIRONMENT,
    )
    with machine.wait_and_connect() as target:
        first_boot.guard(target, "/", facts, machine.log)
    try:
        install()
    except CommandFailed as error:
        full = next((what for what, said in FULL.items() if said.search(error.result.stdout)), "")
        if not full:
            raise
        with machine.wait_and_connect() as target:
            try:
                first_boot.finish(target, "/", facts, machine.log, booted=False)
            except standby.StandbyStays:
                raise error from None
        warn(f"{full} is full: the standby is removed, and the boot loader is installed once more")
        install()
    with machine.wait_and_connect() as target:
        # The trial's kernel may not have what the firmware's was given: then it says so.
        first_boot.prepare(target, machine.log, uefi=plan.origin.firmware in UEFI or facts.firmware in UEFI)
