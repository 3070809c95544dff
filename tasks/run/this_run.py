"""This run: its id, its journal, the machine that it works on, and its lock there."""

from uuid import UUID

import httpx
from prefect import get_client
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from holdfast.base.settings import settings
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host, Way
from holdfast.plan.plan import Plan
from holdfast.ssh.connection import Connection
from holdfast.target import lock
from holdfast.target.machine import Machine
from tasks.run.journal import Journal
from tasks.run.log import current, say


def run_id() -> str:
    """Return the id of this flow run, which marks what the run does to the target."""
    return str(flow_run.get_id())


def journal() -> Journal:
    """Return the journal of this run."""
    return Journal.of_run(settings().runs_dir, run_id())


def machine_of(host: Host, plan: Plan | None = None) -> Machine:
    """Return a host's machine, which reports to the log of the current phase.

    Args:
        host: the host.
        plan: its plan, once there is one. On the way that keeps the tailnet the machine is then reached by its own
            address too, whatever it is called.

    """
    node = plan.origin.identity if plan and host.way is Way.TAILSCALE else None
    return Machine(host, current(), node=node)


def hold_target(target: Connection, facts: Facts) -> None:
    """Take the lock on the target for this run, before a phase changes anything. Raises as lock.hold."""
    if taken_over := lock.hold(target, run_id(), run_is_over, mark=facts.installer_mark):
        say(taken_over)


def check_lock(target: Connection, facts: Facts) -> None:
    """Refuse a target that another run works on. Raises as lock.check."""
    lock.check(target, run_id(), run_is_over, mark=facts.installer_mark)


def run_is_over(other: str) -> bool | None:
    """Ask Prefect whether a run has ended. Return None if it does not know the run, or does not answer."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(other)).state
    except (ValueError, ObjectNotFound, httpx.HTTPError):
        return None
    return state is not None and state.is_final()
