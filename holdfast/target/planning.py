"""Observes a target and plans its install, for the phase `preflight` and for `just plan`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Final, NamedTuple

from holdfast.base.errors import TargetRefused, hinting
from holdfast.base.settings import settings
from holdfast.facts.facts import Facts
from holdfast.facts.way_back import WayBackFacts
from holdfast.inventory.host import Host, Way
from holdfast.nixcli.flake import image_flake, why_builds_itself
from holdfast.nixcli.hardware_file import check_report
from holdfast.nixcli.kept import evaluation_of, is_locked, lock_of
from holdfast.plan.fitness import check_target
from holdfast.plan.foreign import going_on
from holdfast.plan.image import Image, inspect_image
from holdfast.plan.in_use import is_left_alone, names_of
from holdfast.plan.making import make_plan
from holdfast.plan.plan import Login, Plan
from holdfast.plan.refusals.checking import check_configuration
from holdfast.plan.stage import Stage, observe
from holdfast.plan.way_back.first_boot import first_boot_rows
from holdfast.plan.way_back.judging import check_way_back, judge_way_back
from holdfast.plan.way_back.standby import standby_rows
from holdfast.plan.way_in import WayIn, check_way_in, make_way_in
from holdfast.plan.way_out.judging import check_way_out, judge_way_out
from holdfast.plan.way_out.row import WayOutRow
from holdfast.ssh.connection import Connection
from holdfast.ssh.reach import login_of, reached
from holdfast.tailnet.giving_back import check_giving_back
from holdfast.tailnet.on_tailnet import why_on_tailnet
from holdfast.target.look import look
from holdfast.target.machine import Machine
from holdfast.target.way_back import look_back

SAME_LOCK: Final = "A Retry uses what this run locked: if you correct the flake, start a fresh run."


def plan_install(
    machine: Machine,
    *,
    run_id: str,
    folder: Path,
    rehearsal: bool,
    reinstall: bool,
    first_use: bool,
    check_lock: Callable[[Connection, Facts], None],
) -> Plan:
    """Observe the target, lock and evaluate the flake meanwhile, and plan the install. Changes nothing on the target.

    Args:
        machine: the machine; whichever boot answers.
        run_id: the run's id; empty outside of a run.
        folder: the run's folder, which keeps what is locked and evaluated, so that it is done only once.
        rehearsal: whether the install is only rehearsed.
        reinstall: whether the run says that a machine in use is wiped.
        first_use: whether an unknown host key is trusted and pinned.
        check_lock: raises TargetRefused if another run works on the target.

    Raises:
        TargetRefused: the target cannot be installed as it is.
        ConfigError: the flake or the image is invalid, the configuration would make the machine unreachable
            (holdfast/plan/refusals/), or archives in the vault could not be opened again.
        CommandFailed: the flake cannot be evaluated, or see why_builds_itself.
        Unreachable, LoginRefused, NotTrusted: see Machine.connect.

    """
    host, on_line = machine.host, machine.log.line

    def same_lock() -> str:
        return SAME_LOCK if run_id and is_locked(folder) else ""

    no_report = "" if same_lock() else check_report(host)
    with ThreadPoolExecutor(2) as pool, hinting(same_lock):
        # The evaluation stays in this thread: a cancelled run, or Ctrl-C, ends it at once.
        looking = pool.submit(copy_context().run, _look, machine, first_use=first_use, check_lock=check_lock)
        inspecting = pool.submit(copy_context().run, _inspect, host)
        evaluation = evaluation_of(folder, host, on_line=on_line)
        image_lock = None
        if image := image_flake(host):
            image_lock = lock_of(folder, image, options=host.nix_options, on_line=on_line)
    seen = looking.result()
    toplevel, host_name = evaluation.system.toplevel.out, evaluation.configuration.host_name
    names = names_of(host, host_name)
    # Nothing of what would refuse an install matters where nothing is installed.
    left_alone = is_left_alone(seen.facts, names, toplevel, reinstall=reinstall, rehearsal=rehearsal)
    tarball = None if left_alone else inspecting.result()
    platform = evaluation.configuration.system or f"{seen.facts.arch}-linux"
    builds_itself = "" if left_alone else why_builds_itself(host, platform, on_line=on_line)
    if not left_alone:
        check_target(seen.facts, host, tarball, toplevel=toplevel, rehearsal=rehearsal)
        _check_address(host, seen.facts, toplevel)
        if seen.way_in and observe(seen.facts, toplevel).stage is Stage.ORIGIN:
            check_way_in(seen.way_in, host, takes_login=tarball is None or tarball.takes_login)
    host = going_on(host, seen.facts)
    plan = make_plan(
        run_id=run_id,
        host=host,
        facts=seen.facts,
        host_key=seen.host_key,
        login=seen.login,
        devices=evaluation.disks,
        system=evaluation.system,
        builds_itself=builds_itself,
        image=tarball,
        image_lock=image_lock,
        vault_identity=None if left_alone else check_giving_back(host, seen.facts, seen.host_key, settings()),
        rehearsal=rehearsal,
        reinstall=reinstall,
        host_name=host_name,
    )
    if left_alone:
        return plan
    with hinting(same_lock):
        told = check_configuration(
            evaluation.configuration, host, plan, sudo_password=settings().sudo_password_file is not None
        )
    is_installed = plan.stage is Stage.FINAL
    of_new_system = () if is_installed else standby_rows(evaluation.layout, host, seen.facts, tarball)
    of_first_boot = (
        () if is_installed or not seen.back else first_boot_rows(seen.back.efi, host, evaluation.configuration)
    )
    way_back = judge_way_back(seen.back, host, *of_new_system, *of_first_boot)
    efi = seen.back.efi if seen.back and seen.back.efi.bits else None
    way_out: tuple[WayOutRow, ...] = ()
    if plan.stage is Stage.ORIGIN:
        way_out = judge_way_out(seen.back.network, seen.facts.network, host) if seen.back else ()
        check_way_out(way_out, host)
        check_way_back(way_back, host)
    found = {
        "warnings": (*plan.warnings, *told, *([no_report] if no_report else ())),
        "way_in": seen.way_in,
        "way_out": way_out,
        "way_back": way_back,
        "efi": efi,
    }
    return plan.model_copy(update=found)


class _Seen(NamedTuple):
    """The target, who answered there, and how."""

    facts: Facts
    back: WayBackFacts | None
    host_key: str
    login: Login
    way_in: WayIn | None


def _look(machine: Machine, *, first_use: bool, check_lock: Callable[[Connection, Facts], None]) -> _Seen:
    with machine.connect(first_use=first_use) as target:
        facts = look(target)
        check_lock(target, facts)
        # Whether this is the system that is installed is not known yet; a trial is, and leaves by a way of its own.
        leaves = facts.root and not facts.on_trial and observe(facts).stage in (Stage.ORIGIN, Stage.FINAL)
        back = look_back(target) if leaves else None
        way_in = make_way_in(reached(target, machine.host), facts, machine.host)
        return _Seen(facts, back, target.host_key, login_of(target, machine.host), way_in)


def _inspect(host: Host) -> Image | None:
    """Return the image if it is there already: one that is not built yet is checked by `build`."""
    return inspect_image(Path(host.kexec)) if host.kexec_is_path else None


def _check_address(host: Host, facts: Facts, toplevel: str) -> None:
    """Refuse to take a machine off its tailnet where the tailnet is the only way to it.

    Raises:
        TargetRefused: the standard way, at an address of the tailnet.

    """
    leaves = host.way is Way.STANDARD and observe(facts, toplevel).stage is Stage.ORIGIN
    if leaves and not host.go_on_over_local and (why := why_on_tailnet(host, settings())):
        raise TargetRefused(
            f"{why}: in the standard way {host.name} leaves the tailnet at kexec, and would be lost there; nothing was"
            " changed on it.",
            hint='Name an address outside the tailnet, or an image of Holdfast (way = "tailscale").',
        )
