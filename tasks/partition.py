"""Runs the disko script on exactly the disks of the plan, once for each run. The only phase that destroys data."""

from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Final

from holdfast.base import brake
from holdfast.base.errors import UnexpectedState
from holdfast.base.places import MARK_IN_RAM, MARK_ON_DISK, NEW_ROOT, PARTITION_UNIT
from holdfast.facts.facts import Facts
from holdfast.facts.marks import PartitionMark
from holdfast.inventory.host import Host, Way
from holdfast.plan.groups import check_groups
from holdfast.plan.in_use import require_free
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Partitioned
from holdfast.plan.same import found_disks, kept_disks, require_no_new_failure, same_disks
from holdfast.plan.stage import nothing_to_do
from holdfast.ssh.connection import Connection
from holdfast.target import dead_man, first_boot, standby
from holdfast.target.building import bring_scripts
from holdfast.target.digests import Proof, take
from holdfast.target.look import look
from holdfast.target.machine import Machine
from holdfast.target.mounting import mount_again
from holdfast.target.opened import check_opened
from holdfast.target.secrets import keys_in_ram
from holdfast.target.units import has_begun
from tasks.run.log import say, warn
from tasks.run.phase import phase
from tasks.run.progress import progress
from tasks.run.this_run import hold_target, machine_of

MARK_S: Final = 60
UNSTOPPED: Final = (
    "this run is cancelled. The formatting has begun and is not stopped half-way: the run ends once the disks are"
    " formatted and, if that is possible, boot the standby. If Prefect ends it before, disko goes on by itself there,"
    " and a Retry follows it"
)
ARMED: Final = "if the power fails from now on, the new disk boots the installer again"


@phase("partition")
def partition(host: Host, plan: Plan, built: Built) -> Partitioned:
    """Format and mount the disks of the plan, or only mount them if this plan's mark is there.

    Raises:
        UnexpectedState: the installer does not run, the disks have another plan's mark, they are not those of the
            plan, or the disko script opens others; or, after formatting, a disk that is not to be wiped has changed.
        Restarted: the machine was rebooted meanwhile.
        TargetRefused: another run works on the target, it came into use since the plan was made, or what is on a wiped
            disk is also on one that is not wiped.
        CommandFailed: the disko script failed; its log is in the run. Or an encryption key could not be written.
        ConfigError: an encryption key cannot be read.

    """
    work = plan.formatting
    machine = machine_of(host, plan)
    with machine.wait_and_connect() as target:
        facts = look(target)
        if skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Partitioned(skipped=skipped)
        _require_no_other_plan(host, facts, plan.layout_digest)
        hold_target(target, facts)
        machine = machine.on_boot(facts.boot_id)
        if facts.partition_mark:
            _say_other_lock(plan, facts.partition_mark)
            _remount(machine, target, plan, built, facts)
            return Partitioned(formatted=False, skipped="this plan's disks are formatted already")
        # Another run, or this one before its worker died, may have begun: then the disks are formatted, maybe in part.
        begun = has_begun(target, work)
        if not begun:
            require_free(host, plan, facts)
            _require_disks_of(plan, host, facts)
    no_standby = "" if begun else _prepare(machine, built, facts)
    _format_and_prove(machine, plan, built, facts, begun=begun, no_standby=no_standby)
    return Partitioned(formatted=True)


def _require_no_other_plan(host: Host, facts: Facts, digest: str) -> None:
    mark = facts.partition_mark
    if mark and mark.plan_digest != digest:
        raise UnexpectedState(
            f"the disks of {host.name} were formatted by run {mark.run_id} for another plan.",
            hint=f"To format them again for this plan, remove {MARK_IN_RAM} there, then retry.",
        )


def _require_disks_of(plan: Plan, host: Host, facts: Facts) -> None:
    """Check that the installer sees the disks as the plan does."""
    same_disks((*plan.wipe, *plan.reuse), facts)
    # The origin may have lacked the tools that show what lies on its disks.
    check_groups(host, facts, frozenset(disk.name for disk in found_disks(plan.wipe, facts)))
    require_no_new_failure(host, plan.disks, facts)


def _say_other_lock(plan: Plan, mark: PartitionMark) -> None:
    if mark.lock and mark.lock != plan.system.lock.short:
        say(f"run {mark.run_id} formatted the disks from another state of the flake ({mark.lock}): the same layout")


def _remount(machine: Machine, target: Connection, plan: Plan, built: Built, facts: Facts) -> None:
    """Mount the disks that were formatted for this plan, and arm their standby if that is possible."""
    mount_again(machine, target, built, plan, facts)
    if standby.wanted(machine.host):
        try:
            standby.arm(target, NEW_ROOT, machine.host)
        except standby.NoStandby:
            return  # the first arming gave back the RAM that it is armed from
        say(ARMED)
        first_boot.guard(target, NEW_ROOT, facts, machine.log)


def _prepare(machine: Machine, built: Built, facts: Facts) -> str:
    """Bring the disko script and the standby to the installer, before the origin is wiped.

    Returns:
        Why a standby is not possible; empty if it is, or if none is wanted.

    """
    waits_s = dead_man.waits_s(facts, machine.host.deadlines)
    bring_scripts(machine, built, dead_man_s=waits_s)
    if not standby.wanted(machine.host):
        if machine.host.way is Way.TAILSCALE:
            standby.give_back(machine)  # it may have been wanted when kexec was started
        return ""
    with progress(f"standby-{machine.host.name}", "The standby on its way to the target") as report:
        try:
            standby.bring(machine, Path(built.image), facts, on_progress=report)
        except standby.NoStandby as error:
            standby.give_back(machine)
            return error.message
    return ""


def _format_and_prove(
    machine: Machine, plan: Plan, built: Built, facts: Facts, *, begun: bool, no_standby: str
) -> None:
    """Run the disko script, mark the disks as this plan's, and check that it left alone what is not to be wiped.

    Args:
        machine: the machine, on this boot of the installer.
        plan: the plan.
        built: what was built for it.
        facts: what the installer answered.
        begun: whether formatting was begun before: then it is only followed, and no disk can be compared.
        no_standby: why a standby is not possible; empty if it is.

    """
    host = machine.host
    unit = f"{PARTITION_UNIT}{plan.run_id[:8]}"
    with ExitStack() as unstopped, ExitStack() as while_formatting:
        with machine.wait_and_connect() as target:
            before = Proof() if begun else _before_formatting(target, host, plan, built)
            keys = keys_in_ram(
                host,
                machine.connect_over_last_way,
                machine.log,
                most_s=host.deadlines.partition_s,
                # This run may have to wait for another formatting, which ends before its own begins.
                units=f"{PARTITION_UNIT}*.service" if begun else f"{unit}.service",
            )
            while_formatting.enter_context(keys)
            # Half formatted, without dead-man and standby, is the worst place to leave it in.
            unstopped.enter_context(brake.held(lambda: warn(UNSTOPPED)))
            dead_man.disarm(target)
        doing = "following the formatting, begun before, of" if begun else "formatting"
        disks = ", ".join(disk.device for disk in (*plan.wipe, *plan.reuse))
        say(f"{doing} {disks}, at most {host.deadlines.partition_s:.0f} s")
        machine.run_detached(
            unit,
            [built.disko_script],
            work=plan.formatting,
            timeout_s=host.deadlines.partition_s,
            begun=begun,
        )
        while_formatting.close()
        with machine.wait_and_connect() as target:
            after = before.again(target)  # before anything is mounted
            mount_again(machine, target, built, plan, facts)
            mark = PartitionMark(run_id=plan.run_id, plan_digest=plan.layout_digest, lock=plan.system.lock.short)
            _mark(target, mark, f"{NEW_ROOT}{plan.system.places.mark}/{PurePosixPath(MARK_ON_DISK).name}")
            if standby.wanted(host):
                _arm_standby(machine, target, facts, no_standby)
    for proved in before.require_same(host.name, after):
        say(proved)


def _before_formatting(target: Connection, host: Host, plan: Plan, built: Built) -> Proof:
    """Compare what the disko script will open with the plan, and take the proof of the disks that it must not wipe."""
    facts = look(target)
    _require_disks_of(plan, host, facts)
    opened = check_opened(target, host, plan, built, facts)
    used = [disk for disk in found_disks(plan.reuse, facts) if opened & {disk.name, *disk.paths}]
    kept = kept_disks([*found_disks(plan.wipe, facts), *used], facts)
    before = take(target, kept=kept, used=[disk.path for disk in used])
    for disk in before.unread:
        warn(f"{disk} cannot be read, so it cannot be checked that formatting leaves it alone")
    return before


def _mark(target: Connection, mark: PartitionMark, lasting: str) -> None:
    """Write the mark to the disk and to the installer's RAM: it says for which plan the disks were formatted.

    Args:
        target: a connection to the installer.
        mark: the mark.
        lasting: where the new system keeps it, behind its bind mounts, which the installer does not have.

    """
    for place in dict.fromkeys((lasting, MARK_ON_DISK, MARK_IN_RAM)):
        target.write_file(place, mark.model_dump_json().encode(), mode=0o644, timeout_s=MARK_S, folder_mode=0o755)


def _arm_standby(machine: Machine, target: Connection, facts: Facts, no_standby: str) -> None:
    try:
        if no_standby:
            raise standby.NoStandby(no_standby)
        standby.arm(target, NEW_ROOT, machine.host)
    except standby.NoStandby as error:
        name, why = machine.host.name, error.message
        warn(f"if the power fails before nixos-install has ended, {name} will not boot: no standby, since {why}")
    else:
        say(ARMED)
        first_boot.guard(target, NEW_ROOT, facts, machine.log)
