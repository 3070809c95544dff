"""Waits for the final system and proves that it is the one that was built, on the same node."""

import time
from typing import Final

from tasks.model.errors import DeadlinePassed, TargetRefused, UnexpectedState
from tasks.model.facts import Facts
from tasks.model.host import Host
from tasks.model.plan import Plan
from tasks.model.results import Built, Rebooted, Verified
from tasks.model.stage import Stage, observe
from tasks.phase import lines, phase, say, warn
from tasks.remote import standby
from tasks.remote.diagnose import Diagnosis
from tasks.remote.look import look, system_state
from tasks.remote.reach import is_over_local, reach
from tasks.remote.waiting import NotYet, wait_for
from tasks.tailnet.identity import require_same_node
from tasks.tailnet.operator import path_to

NEXT: Final = "Nothing more happens by itself: the system stays as it is."
HINT: Final = "Look at its console: boot loader, network, `journalctl -u tailscaled`."


@phase("verify")
def verify(host: Host, plan: Plan, built: Built, rebooted: Rebooted) -> Verified:
    """Wait for SSH from the final system; compare boot id, closure, identity, host key; look for failed units.

    Diagnose while nothing comes. A node that is to be on the tailnet is proved over the tailnet only.

    Raises:
        DeadlinePassed: it did not come back; says what was seen last, by whom, and where it can be reached.
        UnexpectedState: another system booted than the one that was built.
        NotTrusted: it is another node, or another host key answers.
        TargetRefused: it runs, with failed units.

    """

    expects_node = plan.carries_state and built.tailscale

    diagnosis = Diagnosis(
        host, plan.origin.identity if expects_node else None, addresses=plan.origin.addresses, say=say, lines=lines
    )

    def probe() -> tuple[Facts, str, tuple[str, ...], bool]:
        with reach(host) as target:
            facts = look(target)
            diagnosis.saw(facts)
            if facts.boot_id == rebooted.boot_id:
                raise NotYet("the installer still answers")
            if observe(facts).stage is Stage.INSTALLER:
                raise NotYet("the installer answers, on another boot")
            if facts.booted_system != built.toplevel:
                raise UnexpectedState(
                    f"{host.name} booted {facts.booted_system or facts.os_id}, not {built.toplevel}.",
                    hint="Look at the boot loader's entries; the new system is on the disk.",
                )
            over_local = is_over_local(target, host)
            if expects_node and over_local:
                _require_same_node(plan, facts)
                raise NotYet(f"the new system runs and answers at {host.local}, not over the tailnet")
            if expects_node and facts.identity is None:
                raise NotYet("the final system answers, its tailscaled is not up yet")
            state, failed = system_state(target)
            if state in ("initializing", "starting"):
                raise NotYet("the final system is still starting")
            return facts, target.host_key, failed, over_local

    what = f"{host.name} to boot its new system"
    try:
        facts, host_key, failed, over_local = wait_for(
            what, diagnosis.watch(probe), deadline_s=host.deadlines.reboot_return_s, on_change=say
        )
    except DeadlinePassed as error:
        diagnosis.look()
        runs_at = diagnosis.answers_at(built.toplevel)
        runs = f" The new system runs and is reachable at {runs_at}, not at {host.target}." if runs_at else ""
        raise DeadlinePassed(
            f"{error.message} {diagnosis.summary()}{runs} {NEXT}",
            hint=f"{diagnosis.hint() or HINT} A retry of the run waits again.",
        ) from error
    away_s = round(time.time() - rebooted.rebooted_at, 1) if rebooted.rebooted_at else None
    if expects_node:
        _require_same_node(plan, facts)
    if over_local:
        warn(f"{host.name} does not answer at {host.target}: it was verified over {host.local} (go_on_over_local)")
    if failed:
        raise TargetRefused(
            f"{host.name} runs its new system, with failed units: {', '.join(failed)}.",
            hint="Look at `systemctl status` there; a retry of the run checks again.",
        )
    if rebooted.skipped and standby.wanted(host):
        # It rebooted by itself, maybe before `install` had taken the standby away.
        with reach(host) as target:
            standby.remove(target, "/")
    node = "as the same node, " if expects_node and plan.origin.identity else ""
    say(f"{host.name} runs {built.toplevel}, {node}with no failed unit")
    return Verified(
        boot_id=facts.boot_id,
        kernel=facts.kernel_release,
        booted=facts.booted_system or "",
        identity=facts.identity,
        host_key=host_key,
        away_s=away_s,
        path="unknown" if over_local else path_to(facts.identity),
        over_local=over_local,
    )


def _require_same_node(plan: Plan, facts: Facts) -> None:
    require_same_node(plan.host, plan.origin.identity, facts.identity, hint="Its state is in the vault.")
