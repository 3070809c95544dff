"""Reboots into the final system, by its own boot loader."""

import time
from typing import Final

from holdfast.inventory.host import Host
from holdfast.plan.results import Built, Rebooted
from holdfast.plan.stage import Stage, nothing_to_do, observe
from holdfast.ssh.reach import arrive
from holdfast.target.look import look
from holdfast.target.mounting import leave_installer
from tasks.run.phase import hold_target, lines, phase, say

TIMEOUT_S: Final = 60


@phase("reboot", retries=2)
def reboot(host: Host, built: Built) -> Rebooted:
    """Ask the final system on its trial, or an installer without one, to reboot in a few seconds.

    So this command still ends well. The installer unmounts the new root and exports ZFS pools first.

    Raises:
        UnexpectedState: neither the installer nor a final system runs.
        TargetRefused: another run works on the target.
        CommandFailed: the new root is busy.

    """
    with arrive(host) as target, lines() as output:
        facts = look(target)
        if observe(facts, built.toplevel).stage is Stage.FINAL and facts.on_trial:
            hold_target(target, facts)
            target.run(["systemd-run", "--quiet", "--on-active=2s", "systemctl", "reboot"], timeout_s=TIMEOUT_S)
        elif skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Rebooted(skipped=skipped)
        else:
            hold_target(target, facts)
            leave_installer(target, "reboot", on_line=output.add)
    say(f"{host.name} reboots into its new system")
    return Rebooted(rebooted_at=time.time(), boot_id=facts.boot_id)
