"""Observes a target and plans its install, for the phase `preflight` and for `just plan`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Final, NamedTuple

from holdfast.base.errors import hinting
from holdfast.base.settings import settings
from holdfast.facts.facts import Facts
from holdfast.nixcli.flake import image_flake
from holdfast.nixcli.kept import evaluation_of, lock_of
from holdfast.plan.fitness import check_target
from holdfast.plan.image import Image, inspect_image
from holdfast.plan.making import make_plan
from holdfast.plan.plan import Login, Plan
from holdfast.plan.refusals.checking import check_configuration
from holdfast.ssh.connection import Connection
from holdfast.ssh.reach import login_of
from holdfast.tailnet.giving_back import check_giving_back
from holdfast.target.look import look
from holdfast.target.machine import Machine

SAME_LOCK: Final = "A Retry uses what this run locked: if you correct the flake, start a fresh run."


def plan_install(
    machine: Machine,
    *,
    run_id: str,
    folder: Path,
    rehearsal: bool,
    first_use: bool,
    check_lock: Callable[[Connection, Facts], None],
) -> Plan:
    """Observe the target, lock and evaluate the flake meanwhile, and plan the install. Changes nothing on the target.

    Args:
        machine: the machine; whichever boot answers.
        run_id: the run's id; empty outside of a run.
        folder: the run's folder, which keeps what is locked and evaluated, so that it is done only once.
        rehearsal: whether the install is only rehearsed.
        first_use: whether an unknown host key is trusted and pinned.
        check_lock: raises TargetRefused if another run works on the target.

    Raises:
        TargetRefused: the target cannot be installed as it is.
        ConfigError: the flake or the image is invalid, the configuration would make the machine unreachable
            (holdfast/plan/refusals/), or archives in the vault could not be opened again.
        CommandFailed: the flake cannot be evaluated.
        Unreachable, LoginRefused, NotTrusted: see Machine.connect.

    """
    host, on_line = machine.host, machine.log.line
    with ThreadPoolExecutor(1) as pool, hinting(SAME_LOCK if run_id else ""):
        # The evaluation stays in this thread: a cancelled run, or Ctrl-C, ends it at once.
        looking = pool.submit(copy_context().run, _look, machine, first_use=first_use, check_lock=check_lock)
        evaluation = evaluation_of(folder, host, on_line=on_line)
        image_lock = lock_of(folder, image, on_line=on_line) if (image := image_flake(host)) else None
    seen = looking.result()
    check_target(seen.facts, host, seen.image)
    plan = make_plan(
        run_id=run_id,
        host=host,
        facts=seen.facts,
        host_key=seen.host_key,
        login=seen.login,
        devices=evaluation.disks,
        system=evaluation.system,
        image=seen.image,
        image_lock=image_lock,
        vault_identity=check_giving_back(host, seen.facts, seen.host_key, settings()),
        rehearsal=rehearsal,
    )
    with hinting(SAME_LOCK if run_id else ""):
        told = check_configuration(
            evaluation.configuration, host, plan, sudo_password=settings().sudo_password_file is not None
        )
    return plan.model_copy(update={"warnings": (*plan.warnings, *told)})


class _Seen(NamedTuple):
    """The target, and the image if it is there already: an image that is not built yet is checked by `build`."""

    facts: Facts
    host_key: str
    login: Login
    image: Image | None


def _look(machine: Machine, *, first_use: bool, check_lock: Callable[[Connection, Facts], None]) -> _Seen:
    host = machine.host
    image = inspect_image(Path(host.kexec)) if host.kexec_is_path else None
    with machine.connect(first_use=first_use) as target:
        facts = look(target)
        check_lock(target, facts)
        return _Seen(facts, target.host_key, login_of(target, host), image)
