"""Ends a rehearsal: reboots the installer, and proves that the machine is back in its origin."""

from typing import Final
from uuid import UUID

from prefect.client.orchestration import get_client

from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.rehearsal import NODE_LABEL, require_untouched
from holdfast.plan.results import Built, Returned, Started, WentBack
from holdfast.ssh.connection import Connection
from holdfast.tailnet.operator import path_to
from holdfast.target.dead_man import on_clock
from holdfast.target.home import keep_proof, wait_for_origin
from holdfast.target.mounting import leave_installer
from tasks.run.log import say
from tasks.run.phase import phase
from tasks.run.this_run import hold_target, machine_of, run_id

HINT: Final = (
    "Look at its console: boot loader, network, tailscaled. A retry continues the rehearsal from what it finds."
)


@phase("go_back")
def go_back(host: Host, plan: Plan, built: Built, started: Started, returned: Returned) -> WentBack:
    """Reboot the installer, unless the origin is back already, and wait for the origin on the tailnet.

    The dead-man stays armed meanwhile. If the reboot hangs, the dead-man reboots the machine. That the origin came back
    is then kept there as a proof, for later plans.

    Raises:
        UnexpectedState: the installer is another run's or in use, or another system than the origin came back.
        TargetRefused: another run works on the target.
        NotTrusted: another node, or another host key, answers.
        DeadlinePassed: the origin did not answer in time; the message says what was seen last.
        CommandFailed: the installer does not reboot.

    """
    machine = machine_of(host, plan)

    def check(target: Connection, facts: Facts) -> None:
        require_untouched(host.name, plan.run_id, facts)
        hold_target(target, facts)

    home = wait_for_origin(
        machine,
        plan,
        built,
        what=f"{host.name} to return to its origin",
        left=started.origin_boot_id,
        leaving=returned.boot_id,
        check=check,
        leave=lambda target: leave_installer(target, "reboot", machine.log),
        then=lambda asked_at: _what_next(returned, asked_at),
        hint=HINT,
    )
    _label(home.identity)
    keep_proof(machine, run_id(), home)
    path = path_to(home.identity)
    say(
        f"{host.name} is back in its origin, as the same node (path: {path}); it was away {_shown(returned.away_s)} for"
        f" kexec and {_shown(home.away_s)} for the reboot; its disks are as they were"
    )
    return WentBack(
        boot_id=home.facts.boot_id, identity=home.identity, host_key=home.host_key, away_s=home.away_s, path=path
    )


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
