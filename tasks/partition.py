"""Runs the disko script on exactly the disks of the plan. The only phase that destroys, once for a run."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Final

from holdfast.base.errors import UnexpectedState
from holdfast.facts.facts import Facts
from holdfast.facts.marks import PartitionMark
from holdfast.inventory.host import Host
from holdfast.nixcli.copying import copy_closure
from holdfast.plan.disks import kept_disks, same_disks
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Partitioned
from holdfast.plan.stage import nothing_to_do
from holdfast.ssh.connection import Connection
from holdfast.ssh.reach import arrive, reach_soon
from holdfast.target import dead_man, digests, standby
from holdfast.target.look import look
from holdfast.target.mounting import MARK_IN_RAM, MARK_ON_DISK, ROOT, mount_again
from holdfast.target.secrets import keys_in_ram
from holdfast.target.units import has_begun, run_detached
from tasks.run.phase import hold_target, lines, phase, say, warn
from tasks.run.progress import progress

TIMEOUT_S: Final = 60
ARMED: Final = "if the power fails from now on, the new disk boots the installer again"


@phase("partition")
def partition(host: Host, plan: Plan, built: Built) -> Partitioned:
    """Format and mount the disks of the plan, or only mount them if this plan's mark is there.

    Raises:
        UnexpectedState: not the installer, another plan's mark, or the disks are not those of the plan; or, after the
            formatting, a disk that the plan keeps is not as it was before.
        Restarted: it was rebooted meanwhile.
        TargetRefused: another run works on the target.
        CommandFailed: the disko script failed; its log is in the run. Or an encryption key could not be written.
        ConfigError: an encryption key cannot be read.

    """
    digest = plan.digest(built.disko_script)
    work = plan.formatting(built.disko_script)
    with arrive(host) as target:
        facts = look(target)
        if skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Partitioned(skipped=skipped)
        mark = facts.partition_mark
        if mark and mark.plan_digest != digest:
            raise UnexpectedState(
                f"the disks of {host.name} were formatted by run {mark.run_id} for another plan.",
                hint="To format them again for this plan, remove /run/holdfast/partition.json there, then retry.",
            )
        hold_target(target, facts)
        if mark:
            with lines() as output:
                mount_again(target, host, built, boot_id=facts.boot_id, on_line=output.add)
            if standby.wanted(host) and not standby.arm(target, ROOT):
                say(ARMED)
            return Partitioned(formatted=False, skipped="this plan's disks are formatted already")
        # Of another run, or of this one before its worker died: the disks may be half formatted, or wholly.
        begun = has_begun(target, work)
        if not begun:
            same_disks(plan.wipe, facts)
    kept = () if begun else kept_disks(plan.wipe, facts)
    with lines() as output, ExitStack() as while_formatting:
        if not begun:
            copy_closure(host, [built.disko_script], root=None, boot_id=facts.boot_id, on_line=output.add)
        no_standby = (
            _bring_standby(host, built, facts, on_line=output.add) if standby.wanted(host) and not begun else ""
        )
        with arrive(host, boot_id=facts.boot_id) as target:
            before = digests.take(target, kept)
            for disk in (disk for disk, digest in before.items() if not digest):
                warn(f"{disk} cannot be read: whether the formatting leaves it alone will not be known")
            while_formatting.enter_context(
                keys_in_ram(host, lambda: reach_soon(host, boot_id=facts.boot_id), on_line=output.add)
            )
            dead_man.disarm(target)
        doing = "following the formatting, begun before, of" if begun else "formatting"
        say(f"{doing} {', '.join(disk.device for disk in plan.wipe)}")
        run_detached(
            lambda: reach_soon(host, boot_id=facts.boot_id),
            f"holdfast-partition-{plan.run_id[:8]}",
            [built.disko_script],
            work=work,
            timeout_s=host.deadlines.partition_s,
            on_line=output.add,
            begun=begun,
        )
        while_formatting.close()
        with arrive(host, boot_id=facts.boot_id) as target:
            after = digests.take(target, kept)  # before anything is mounted
            written = PartitionMark(run_id=plan.run_id, plan_digest=digest)
            mount_again(target, host, built, boot_id=facts.boot_id, on_line=output.add)
            for place in (MARK_ON_DISK, MARK_IN_RAM):
                target.run(["install", "-d", "-m", "0755", str(PurePosixPath(place).parent)], timeout_s=TIMEOUT_S)
                target.write_file(place, written.model_dump_json().encode(), mode=0o644, timeout_s=TIMEOUT_S)
            if standby.wanted(host):
                _arm_standby(target, host, no_standby)
    digests.require_same(host.name, before, after)
    if any(before.values()):
        say(f"untouched, by their first and last MiB: {', '.join(disk for disk, digest in before.items() if digest)}")
    return Partitioned(formatted=True)


def _bring_standby(host: Host, built: Built, facts: Facts, *, on_line: Callable[[str], None]) -> str:
    """Bring what a standby needs, while the origin is still whole; return why there can be none."""
    with progress(f"standby-{host.name}", "The installer, for the new disk until its system is there") as report:
        return standby.bring(
            lambda: reach_soon(host, boot_id=facts.boot_id),
            host,
            Path(built.image),
            facts,
            on_line=on_line,
            on_progress=report,
        )


def _arm_standby(target: Connection, host: Host, why_not: str) -> None:
    if why_not := why_not or standby.arm(target, ROOT):
        warn(f"if the power fails before nixos-install is over, {host.name} does not boot: no standby, since {why_not}")
    else:
        say(ARMED)
