"""Reboots into the final system, with its own boot loader."""

from typing import Final

from holdfast.base import clock
from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Rebooted
from holdfast.plan.stage import Stage, nothing_to_do, observe
from holdfast.target.look import look
from holdfast.target.mounting import leave_installer
from tasks.run.log import say
from tasks.run.phase import phase
from tasks.run.this_run import hold_target, machine_of

ASK_S: Final = 60


@phase("reboot", retries=2)
def reboot(host: Host, plan: Plan, built: Built) -> Rebooted:
    """Reboot the final system in its trial, or the installer if there was no trial, after a few seconds.

    The delay lets this command finish first. Before it reboots, the installer unmounts the new root and exports ZFS
    pools.

    Raises:
        UnexpectedState: neither the installer nor a final system runs.
        TargetRefused: another run works on the target.
        CommandFailed: the new root is busy.

    """
    machine = machine_of(host, plan)
    with machine.wait_and_connect() as target:
        facts = look(target)
        if observe(facts, built.toplevel).stage is Stage.FINAL and facts.on_trial:
            hold_target(target, facts)
            target.run(["systemd-run", "--quiet", "--on-active=2s", "systemctl", "reboot"], timeout_s=ASK_S)
        elif skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Rebooted(skipped=skipped)
        else:
            hold_target(target, facts)
            leave_installer(target, "reboot", machine.log)
    say(f"{host.name} reboots into its final system")
    return Rebooted(rebooted_at=clock.now(), boot_id=facts.boot_id)
