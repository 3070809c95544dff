"""What a plan will do, in words: the same for the log, the plan's page, `just plan` and the form of the approval."""

from enum import StrEnum
from typing import Final

from holdfast.base.size import gib
from holdfast.base.text import in_markdown
from holdfast.plan.in_use import INSTALLED
from holdfast.plan.plan import Plan
from holdfast.plan.stage import Stage
from holdfast.plan.until import LEAVES

LONGEST_CELL: Final = 160


class Course(StrEnum):
    """What will happen to a machine; the value is the heading over the disks of its plan."""

    REHEARSED = "No disk is touched"
    LEFT_ALONE = "Nothing is changed"
    VERIFIED = "Nothing is wiped"
    RESUMED = "Formatted already"
    REINSTALLED = "Will be wiped: a machine in use"
    INSTALLED = "Will be wiped"


def course_of(plan: Plan) -> Course:
    """Return what will happen."""
    if plan.rehearsal:
        return Course.REHEARSED
    if plan.left_alone:
        return Course.LEFT_ALONE
    if plan.stage is Stage.FINAL:
        return Course.VERIFIED
    if plan.resumes:
        return Course.RESUMED
    return Course.REINSTALLED if plan.reinstalls else Course.INSTALLED


def stops(plan: Plan) -> str:
    """Return where the run was asked to stop, and how it leaves the machine, without a full stop; empty if nowhere."""
    return f"the run stops after {plan.until}, as asked: {LEAVES[plan.until]}" if plan.until else ""


def wipes(plan: Plan) -> str:
    """Return which disks the plan wipes, with their size and what is on them, as Markdown without a full stop."""
    disks = [
        f"{in_markdown(disk.device, LONGEST_CELL)}, {gib(disk.size_bytes)}"
        f" ({in_markdown(disk.content or 'empty', LONGEST_CELL)})"
        for disk in plan.wipe
    ]
    return f"WIPES {'; '.join(disks)}" if disks else "WIPES no disk"


def in_words(plan: Plan) -> str:
    """Return what will happen to the machine, as a sentence that begins with its name, without a full stop."""
    disks = ", ".join(disk.device for disk in plan.wipe) or "no disk"
    match course_of(plan):
        case Course.REHEARSED:
            return f"{plan.host} is in stage {plan.stage}; this rehearsal touches no disk"
        case Course.LEFT_ALONE:
            return f"{plan.host} is {INSTALLED} ({plan.in_use})"
        case Course.VERIFIED:
            word = ", whatever reinstall says" if plan.reinstall else ""
            return f"{plan.host} runs the system to be installed already: nothing is wiped{word}, it is only verified"
        case Course.RESUMED:
            return f"{plan.host} is in the installer with formatted disks: if that was for this plan, nothing is wiped"
        case Course.INSTALLED if plan.foreign:
            return f"{plan.host} is in an installer that somebody else started: no kexec; its disks: wipes {disks}"
        case Course.REINSTALLED:
            return f"{plan.host} is in use ({plan.in_use}); once a person approves this reinstall, it wipes {disks}"
        case Course.INSTALLED:
            return f"{plan.host} is in stage {plan.stage}; wipes {disks}"
