"""The first phase: observes the target and the tailnet, refuses what cannot work, writes the plan."""

from prefect.artifacts import create_markdown_artifact

from holdfast.inventory.host import Host
from holdfast.plan.markdown import to_markdown
from holdfast.plan.outlook import in_words, stops
from holdfast.plan.plan import Plan
from holdfast.plan.system import SHORT
from holdfast.plan.until import Until
from holdfast.plan.way_back.judging import warned_of
from holdfast.plan.way_out.judging import warned_of as warned_of_way_out
from holdfast.target.planning import plan_install
from holdfast.target.secrets import check_secrets
from tasks.run.log import say, warn
from tasks.run.phase import phase
from tasks.run.this_run import check_lock, journal, machine_of, run_id


@phase("preflight", retries=2)
def preflight(host: Host, *, rehearsal: bool = False, reinstall: bool = False, until: Until | None = None) -> Plan:
    """Observe the target and plan the install. Changes nothing.

    Args:
        host: the host.
        rehearsal: whether the install is only rehearsed, which touches no disk.
        reinstall: whether the run says that a machine in use is wiped.
        until: the phase after which the run is asked to stop.

    Raises:
        TargetRefused: the target cannot be installed as it is, or another run works on it.
        UnexpectedState: the lock on the target is invalid.
        ConfigError: the flake or the image is invalid, the configuration would make the machine unreachable
            (holdfast/plan/refusals/), archives in the vault could not be opened again, or one of the user's
            secrets cannot be read.
        CommandFailed: the flake cannot be evaluated.

    """
    plan = plan_install(
        machine_of(host),
        run_id=run_id(),
        folder=journal().folder,
        rehearsal=rehearsal,
        reinstall=reinstall,
        first_use=True,
        check_lock=check_lock,
    ).model_copy(update={"until": until})
    if not plan.left_alone:
        check_secrets(host)
    ways = (*warned_of(plan.way_back), *warned_of_way_out(plan.way_out))
    for warning in (*plan.warnings, *(finding.in_one_line() for finding in plan.verdict), *ways):
        warn(warning)
    say(in_words(plan))
    if stop := stops(plan):
        say(stop)
    say(f"plan {plan.digest[:SHORT]}: {plan.system.toplevel.out}, from {plan.system.lock.short}")
    create_markdown_artifact(to_markdown(plan), key=f"plan-{host.name}", description=f"{in_words(plan)}.")
    return plan
