"""Sees that a rehearsal starts from an origin, before anything is changed."""

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
    """Look which system runs; changes nothing.

    It comes after `build`, since only the built closure tells the final system from an older one of ours.

    Raises:
        TargetRefused: an installer of somebody else runs, or the final system.

    """
    with machine_of(host).connect() as target:
        require_start(host.name, plan.run_id, look(target), built.toplevel)
    say(f"this is a rehearsal: {host.name} goes into the installer and back, no disk is touched (the plan's neither)")
    return Result()
