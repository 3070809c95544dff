"""Waits for the final system and proves that it is the one that was built, on the same node."""

import time

from tasks.model.errors import TargetRefused, UnexpectedState
from tasks.model.facts import Facts
from tasks.model.host import Host
from tasks.model.plan import Plan
from tasks.model.results import Built, Rebooted, Verified
from tasks.model.stage import Stage, observe
from tasks.phase import phase, say
from tasks.remote.look import look, system_state
from tasks.remote.reach import reach
from tasks.remote.waiting import NotYet, wait_for
from tasks.tailnet.identity import require_same_node
from tasks.tailnet.operator import path_to


@phase("verify")
def verify(host: Host, plan: Plan, built: Built, rebooted: Rebooted) -> Verified:
    """Wait for SSH from the final system; compare boot id, closure, identity, host key; look for failed units.

    Raises:
        DeadlinePassed: it did not come back; says what was seen last.
        UnexpectedState: another system booted than the one that was built.
        NotTrusted: it is another node, or another host key answers.
        TargetRefused: it runs, with failed units.

    """

    expects_node = plan.carries_state and built.tailscale

    def probe() -> tuple[Facts, str, tuple[str, ...]]:
        with reach(host) as target:
            facts = look(target)
            if facts.boot_id == rebooted.boot_id:
                raise NotYet("the installer still answers")
            if observe(facts).stage is Stage.INSTALLER:
                raise NotYet("the installer answers, on another boot")
            if facts.booted_system != built.toplevel:
                raise UnexpectedState(
                    f"{host.name} booted {facts.booted_system or facts.os_id}, not {built.toplevel}.",
                    hint="Look at the boot loader's entries; the new system is on the disk.",
                )
            if expects_node and facts.identity is None:
                raise NotYet("the final system answers, its tailscaled is not up yet")
            state, failed = system_state(target)
            if state in ("initializing", "starting"):
                raise NotYet("the final system is still starting")
            return facts, target.host_key, failed

    facts, host_key, failed = wait_for(
        f"{host.name} to boot its new system", probe, deadline_s=host.deadlines.reboot_return_s, on_change=say
    )
    away_s = round(time.time() - rebooted.rebooted_at, 1) if rebooted.rebooted_at else None
    if expects_node:
        require_same_node(host.name, plan.origin.identity, facts.identity, hint="Its state is in the vault.")
    if failed:
        raise TargetRefused(
            f"{host.name} runs its new system, with failed units: {', '.join(failed)}.",
            hint="Look at `systemctl status` there; a retry of the run checks again.",
        )
    node = "as the same node, " if expects_node and plan.origin.identity else ""
    say(f"{host.name} runs {built.toplevel}, {node}with no failed unit")
    return Verified(
        boot_id=facts.boot_id,
        kernel=facts.kernel_release,
        booted=facts.booted_system or "",
        identity=facts.identity,
        host_key=host_key,
        away_s=away_s,
        path=path_to(facts.identity),
    )
