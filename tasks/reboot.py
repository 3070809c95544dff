"""Reboots into the final system, with its own boot loader."""

from typing import Final

from holdfast.base import clock
from holdfast.base.places import NEW_ROOT
from holdfast.facts.system import UEFI
from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Rebooted
from holdfast.plan.stage import Stage, nothing_to_do, observe
from holdfast.target import first_boot
from holdfast.target.final import back_in_installer
from holdfast.target.look import look
from holdfast.target.mounting import leave_installer, mount_again
from tasks.run.log import say
from tasks.run.phase import phase
from tasks.run.this_run import hold_target, machine_of

ASK_S: Final = 60


@phase("reboot", retries=2, until_booted=True)
def reboot(host: Host, plan: Plan, built: Built) -> Rebooted:
    """Reboot the final system in its trial, or the installer if there was no trial, after a few seconds.

    The delay lets this command finish first. Before it reboots, the installer unmounts the new root and exports ZFS
    pools.

    Raises:
        UnexpectedState: neither the installer nor a final system runs.
        BackInInstaller: the installer runs, since the final system was rebooted before and did not come up.
        TargetRefused: another run works on the target.
        CommandFailed: the new root is busy.

    """
    machine, way_back = machine_of(host, plan), False
    with machine.wait_and_connect() as target:
        facts = look(target)
        if observe(facts, built.toplevel).stage is Stage.FINAL and facts.on_trial:
            hold_target(target, facts)
            way_back = first_boot.leads_back(target, "/", facts) and first_boot.prepare(
                target, machine.log, uefi=facts.firmware in UEFI
            )
            target.run(["systemd-run", "--quiet", "--on-active=2s", "systemctl", "reboot"], timeout_s=ASK_S)
        elif skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Rebooted(skipped=skipped)
        else:
            hold_target(target, facts)
            if facts.firmware in (*UEFI, first_boot.BIOS):
                mount_again(machine.on_boot(facts.boot_id), target, built, plan, facts)
                if first_boot.leads_back(target, NEW_ROOT, facts):
                    raise back_in_installer(host.name, built.toplevel)
            leave_installer(target, "reboot", machine.log)
    machine.let_go()
    say(f"{host.name} reboots into its final system")
    return Rebooted(rebooted_at=clock.now(), boot_id=facts.boot_id, way_back=way_back)
