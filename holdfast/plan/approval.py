"""Whether a person must approve a plan before the target is changed, and why."""

import time

from holdfast.base.places import DEAD_MAN_TIMER
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Approve, Host
from holdfast.plan.disks import FAILING_DISK
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built
from holdfast.plan.stage import Stage, observe


def why_ask(host: Host, plan: Plan) -> str:
    """Return why a person is asked before the disks of the plan are wiped; empty if nobody is asked.

    With `unpinned`, nobody is asked if each of these disks is pinned. Otherwise the reason names those whose device may
    be another disk at the next boot: on a machine with several disks, all that are not named by /dev/disk/by-id.
    If none is wiped, this goes for those that are used. A failing disk always needs a person, unless `allow` names it.
    So does a machine in use, or one of which nobody knows that.
    """
    if plan.reinstalls:
        return f"it is in use ({plan.in_use}), and this run says reinstall"
    if not plan.origin_known:
        return "an installer runs that does not say which system ran before it: its disks may be in use"
    failing = [f"{disk.device} is {disk.health}" for disk in plan.disks if disk.failing]
    if failing and FAILING_DISK not in host.allow:
        return f'{" and ".join(failing)} (add "{FAILING_DISK}" to allow in the inventory if you know better)'
    if host.approve is Approve.NEVER:
        return ""
    if host.approve is Approve.ALWAYS:
        return "the inventory says approve = always"
    loose = [disk for disk in plan.wipe or plan.reuse if not disk.pinned]
    if not loose:
        return ""
    devices = ", ".join(disk.device for disk in loose)
    reasons = ["the inventory pins no disks"]
    if host.disks:
        fits = f"a pin of the inventory fits {devices} and another disk"
        reasons = [fits if plan.wipe else f"no disk is wiped, and no pin of the inventory fits {devices} alone"]
    count = len(plan.disks)
    unstable = [disk.device for disk in loose if not disk.named_by_id]
    if unstable and count > 1:
        reasons.append(f"{', '.join(unstable)} may be another of its {count} disks at the next boot")
    return ", and ".join(reasons)


def nothing_to_approve(plan: Plan, facts: Facts, built: Built, *, begun: bool) -> str:
    """Return why this run will not wipe the disks of the plan; empty if it will.

    Args:
        plan: the plan.
        facts: the target now; another run may have worked there since the plan was made.
        built: the system and the disko script; they show whether the same install was begun or is done.
        begun: whether any run began formatting for this plan in the installer.

    """
    stage, why = observe(facts, built.toplevel)
    if stage is Stage.FINAL:
        return f"it runs {why} already"
    mark = facts.partition_mark
    if stage is Stage.INSTALLER and mark and mark.plan_digest == plan.layout_digest:
        return f"run {mark.run_id} formatted this plan's disks already"
    return "formatting this plan's disks has begun already" if begun else ""


def way_out(plan: Plan) -> str:
    """Return what to do when nobody came to approve a plan."""
    again = "Start the run again when somebody is there to approve it"
    if plan.reinstalls or not plan.origin_known:
        return f"{again}."
    return f"{again}, or pin the disks in the inventory."


def while_nobody_comes(host: Host, facts: Facts) -> str:
    """Return what happens to a target if nobody approves its plan."""
    if observe(facts).stage is not Stage.INSTALLER:
        return f"nothing was changed on {host.name}, it is in its origin"
    if DEAD_MAN_TIMER not in facts.units:
        return f"this run changed nothing on {host.name}, which stays in the installer until it is rebooted"
    at = facts.installer_mark.dead_man_at if facts.installer_mark else None
    when = f" (at {time.strftime('%H:%M', time.gmtime(at))} UTC by its clock, or later)" if at else ""
    return f"this run changed nothing on {host.name}: its installer's dead-man brings the origin back{when}"
