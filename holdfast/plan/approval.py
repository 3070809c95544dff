"""Whether a person has to approve a plan before the target is changed, and why."""

import time

from holdfast.base.places import DEAD_MAN_TIMER
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Approve, Host
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built
from holdfast.plan.stage import Stage, observe


def why_ask(host: Host, plan: Plan) -> str:
    """Say why a person is asked before the disks of the plan are wiped; an empty text if nobody is.

    With `unpinned` nobody is asked when each of them is pinned. Otherwise the reason names the disks whose device may
    lead to another disk at the next boot: on a machine with more than one, all that are not named by /dev/disk/by-id.
    """
    if host.approve is Approve.NEVER:
        return ""
    if host.approve is Approve.ALWAYS:
        return "the inventory says approve = always"
    loose = [disk for disk in plan.wipe if not disk.pinned]
    if not loose:
        return ""
    reasons = [
        f"a pin of the inventory fits {', '.join(disk.device for disk in loose)} and another disk, too"
        if host.disks
        else "the inventory pins no disks"
    ]
    count = len(plan.wipe) + len(plan.keep)
    unstable = [disk.device for disk in loose if not disk.named_by_id]
    if unstable and count > 1:
        reasons.append(f"{', '.join(unstable)} may be another of its {count} disks at the next boot")
    return ", and ".join(reasons)


def nothing_to_approve(plan: Plan, facts: Facts, built: Built, *, begun: bool) -> str:
    """Say why the disks of the plan will not be wiped by this run; an empty text if they will.

    Args:
        plan: the plan.
        facts: what the target shows now; another run may have been there since the plan was made.
        built: the system and the disko script, which tell whether an install of just this is under way, or done.
        begun: whether the formatting for this plan was begun in the installer, by any run.

    """
    stage, why = observe(facts, built.toplevel)
    if stage is Stage.FINAL:
        return f"it runs {why} already"
    mark = facts.partition_mark
    if stage is Stage.INSTALLER and mark and mark.plan_digest == plan.digest(built.disko_script):
        return f"run {mark.run_id} formatted this plan's disks already"
    return "the formatting of this plan's disks was begun already" if begun else ""


def while_nobody_comes(host: Host, facts: Facts) -> str:
    """Say what becomes of a target whose plan nobody approved."""
    if observe(facts).stage is not Stage.INSTALLER:
        return f"nothing was changed on {host.name}, it is in its origin"
    if DEAD_MAN_TIMER not in facts.units:
        return f"this run changed nothing on {host.name}, which stays in the installer until it is rebooted"
    at = facts.installer_mark.dead_man_at if facts.installer_mark else None
    when = f" (at {time.strftime('%H:%M', time.gmtime(at))} UTC by its clock, or later)" if at else ""
    return f"this run changed nothing on {host.name}: its installer's dead-man brings the origin back{when}"
