"""Checks that a rehearsal starts from an origin, before anything is changed."""

from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.rehearsal import require_start
from holdfast.plan.results import Built, Result
from holdfast.target.look import look
from tasks.run.log import say
from tasks.run.phase import phase
from tasks.run.this_run import machine_of


@phase("at_origin", retries=2)
def at_origin(host: Host, plan: Plan, built: Built) -> Result:
    """Check which system runs. Changes nothing.

    Raises:
        TargetRefused: another run's installer runs, or the final system.

    """
    with machine_of(host, plan).connect() as target:
        require_start(host.name, plan.run_id, look(target), built.toplevel)
    say(f"this is a rehearsal: {host.name} starts the installer and returns to its origin; no disk is touched")
    return Result()
