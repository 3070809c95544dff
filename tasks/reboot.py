"""Unmounts the new root, exports ZFS pools, and reboots into the final system."""

import time
from typing import Final

from tasks.model.host import Host
from tasks.model.results import Built, Rebooted
from tasks.model.settings import script
from tasks.model.stage import nothing_to_do
from tasks.phase import lines, phase, say
from tasks.remote.look import look
from tasks.remote.mounting import ROOT
from tasks.remote.reach import reach

TIMEOUT_S: Final = 120


@phase("reboot")
def reboot(host: Host, built: Built) -> Rebooted:
    """Ask the installer to reboot, in a few seconds, so that this command still ends well.

    Raises:
        UnexpectedState: neither the installer nor a final system runs.
        CommandFailed: the new root is busy.

    """
    with reach(host) as target, lines() as output:
        facts = look(target)
        if skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Rebooted(skipped=skipped)
        target.run_script(script("leave-installer.sh"), [ROOT], timeout_s=TIMEOUT_S, on_line=output.add)
    say(f"{host.name} reboots into its new system")
    return Rebooted(rebooted_at=time.time(), boot_id=facts.boot_id)
