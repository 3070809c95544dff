"""Unmounts the new root, exports ZFS pools, and reboots into the final system."""

import time
from typing import Final

from tasks.model.host import Host
from tasks.model.results import Built, Rebooted
from tasks.model.settings import script
from tasks.model.stage import nothing_to_do
from tasks.phase import hold_target, lines, phase, say
from tasks.remote.look import look
from tasks.remote.mounting import ROOT
from tasks.remote.reach import arrive

TIMEOUT_S: Final = 120


@phase("reboot", retries=2)
def reboot(host: Host, built: Built) -> Rebooted:
    """Ask the installer to reboot, in a few seconds, so that this command still ends well.

    Raises:
        UnexpectedState: neither the installer nor a final system runs.
        TargetRefused: another run works on the target.
        CommandFailed: the new root is busy.

    """
    with arrive(host) as target, lines() as output:
        facts = look(target)
        if skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Rebooted(skipped=skipped)
        hold_target(target, facts)
        target.run_script(script("leave-installer.sh"), [ROOT], timeout_s=TIMEOUT_S, on_line=output.add)
    say(f"{host.name} reboots into its new system")
    return Rebooted(rebooted_at=time.time(), boot_id=facts.boot_id)
