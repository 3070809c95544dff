"""Ends a rehearsal: reboots the installer, and proves that the machine is back in its origin."""

from typing import Final
from uuid import UUID

from prefect.client.orchestration import get_client

from holdfast.base import clock
from holdfast.base.errors import DeadlinePassed
from holdfast.base.waiting import NotYet, wait_for
from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.rehearsal import NODE_LABEL, require_home, require_untouched
from holdfast.plan.results import Built, Returned, WentBack
from holdfast.tailnet.operator import path_to
from holdfast.target.dead_man import on_clock
from holdfast.target.diagnose import Diagnosis
from holdfast.target.look import look
from holdfast.target.mounting import leave_installer
from tasks.run.log import say
from tasks.run.phase import phase
from tasks.run.this_run import hold_target, machine_of, run_id

HINT: Final = "Look at its console: boot loader, network, tailscaled."


@phase("go_back")
def go_back(host: Host, plan: Plan, built: Built, returned: Returned) -> WentBack:
    """Reboot the installer, unless the origin is back already, and wait for the origin on the tailnet.

    The dead-man stays armed meanwhile. If the reboot hangs, the dead-man reboots the machine.

    Raises:
        UnexpectedState: the installer is another run's or in use, or another system than the origin came back.
        TargetRefused: another run works on the target.
        NotTrusted: another node, or another host key, answers.
        DeadlinePassed: the origin did not answer in time; the message says what was seen last.
        CommandFailed: the installer does not reboot.

    """
    machine = machine_of(host, plan)
    diagnosis = Diagnosis(host, plan.origin.identity, addresses=plan.origin.addresses, log=machine.log)
    asked_at = 0.0
    asked = False

    def probe() -> tuple[Facts, Identity, str]:
        nonlocal asked, asked_at
        with machine.connect() as target:
            facts = look(target)
            diagnosis.saw(facts)
            if facts.boot_id == returned.boot_id:
                if not asked:
                    require_untouched(host.name, plan.run_id, facts)
                    hold_target(target, facts)
                    # Before the command: the machine may be gone before the answer arrives.
                    asked_at = clock.now()
                    leave_installer(target, "reboot", machine.log)
                    asked = True
                raise NotYet("the installer still answers")
            require_home(host.name, plan, facts, target.host_key, built.toplevel)
            if facts.identity is None:
                raise NotYet("the origin answers, its tailscaled is not up yet")
            return facts, facts.identity, target.host_key

    what = f"{host.name} to return to its origin"
    say(f"waiting for {what}, at most {host.deadlines.reboot_return_s:.0f} s")
    try:
        facts, identity, host_key = wait_for(
            what, diagnosis.watch(probe), deadline_s=host.deadlines.reboot_return_s, on_change=say
        )
    except DeadlinePassed as error:
        diagnosis.look()
        raise DeadlinePassed(
            f"{error.message} {diagnosis.summary()} {_what_next(returned, asked_at)}",
            hint=f"{diagnosis.hint() or HINT} A retry of the run continues the rehearsal from what it finds.",
        ) from error
    away_s = round(clock.now() - asked_at, 1) if asked_at else None
    _label(identity)
    path = path_to(identity)
    say(
        f"{host.name} is back in its origin, as the same node (path: {path}); it was away {_shown(returned.away_s)} for"
        f" kexec and {_shown(away_s)} for the reboot; its disks are as they were"
    )
    return WentBack(boot_id=facts.boot_id, identity=identity, host_key=host_key, away_s=away_s, path=path)


def _label(identity: Identity) -> None:
    """Label the run with the node that came back, for an install that requires a rehearsal (tasks/rehearsed.py)."""
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(run_id()), {NODE_LABEL: identity.node_id})


def _what_next(returned: Returned, asked_at: float) -> str:
    """Return what happens next while nobody can reach the machine, for the message."""
    if not asked_at and returned.dead_man_at:
        return (
            "The installer could not be reached; its dead-man reboots it into its untouched origin at about"
            f" {on_clock(returned.dead_man_at)} (operator's clock)."
        )
    return "Its disks are untouched: switched off and on at the machine, it boots its origin."


def _shown(away_s: float | None) -> str:
    return "an unknown time" if away_s is None else f"{away_s:.1f} s"
