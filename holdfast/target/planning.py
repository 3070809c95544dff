"""Observes a target and plans its install, for the phase `preflight` and for `just plan`."""

from collections.abc import Callable
from pathlib import Path

from holdfast.base.settings import settings
from holdfast.facts.facts import Facts
from holdfast.nixcli.evaluation import evaluate, lock_flake, read
from holdfast.plan.configuration import check_configuration
from holdfast.plan.fitness import check_target
from holdfast.plan.image import inspect_image
from holdfast.plan.making import make_plan
from holdfast.plan.plan import Plan
from holdfast.ssh.connection import Connection
from holdfast.ssh.reach import login_of
from holdfast.tailnet.giving_back import check_giving_back
from holdfast.target.look import look
from holdfast.target.machine import Machine


def plan_install(
    machine: Machine,
    *,
    run_id: str,
    rehearsal: bool,
    first_use: bool,
    check_lock: Callable[[Connection, Facts], None],
) -> Plan:
    """Observe the target and plan the install. Changes nothing on the target.

    Args:
        machine: the machine; whichever boot answers.
        run_id: the run's id.
        rehearsal: whether the install is only rehearsed.
        first_use: whether an unknown host key is trusted and pinned.
        check_lock: raises TargetRefused if another run works on the target.

    Raises:
        TargetRefused: the target cannot be installed as it is.
        ConfigError: the flake or the image is invalid, the configuration would make the machine unreachable
            (holdfast/plan/configuration.py), or archives in the vault could not be opened again.
        CommandFailed: the flake cannot be evaluated.
        Unreachable, LoginRefused, NotTrusted: see Machine.connect.

    """
    host = machine.host
    lock = lock_flake(host.flake, on_line=machine.log.line)
    evaluation = read(host, lock, evaluate(host, lock, on_line=machine.log.line))
    # An image that is not built yet is checked by the phase `build`, also before the target is touched.
    image = inspect_image(Path(host.kexec)) if host.kexec_is_path else None
    with machine.connect(first_use=first_use) as target:
        facts = look(target)
        check_lock(target, facts)
        host_key, login = target.host_key, login_of(target, host)
    check_target(facts, host, image)
    plan = make_plan(
        run_id=run_id,
        host=host,
        facts=facts,
        host_key=host_key,
        login=login,
        devices=evaluation.disks,
        system=evaluation.system,
        image=image,
        vault_identity=check_giving_back(host, facts, host_key, settings()),
        rehearsal=rehearsal,
    )
    allowed = check_configuration(evaluation.configuration, host, plan)
    return plan.model_copy(update={"warnings": (*plan.warnings, *allowed)})
