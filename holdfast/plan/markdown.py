"""Shows a plan to a person: Markdown, with text from the target escaped."""

from typing import Final

from holdfast.base.size import gib
from holdfast.base.text import in_markdown
from holdfast.inventory.host import Way
from holdfast.plan.disks import PlannedDisk
from holdfast.plan.groups import LONGEST_CONTENT
from holdfast.plan.outlook import LONGEST_CELL, Course, course_of, in_words, stops
from holdfast.plan.plan import Plan
from holdfast.plan.system import SHORT
from holdfast.plan.way_in import in_rows

_TITLES: Final = {
    Course.REHEARSED: "Rehearse the install of",
    Course.LEFT_ALONE: "Leave alone",
    Course.VERIFIED: "Verify",
    Course.RESUMED: "Install",
    Course.REINSTALLED: "Reinstall",
    Course.INSTALLED: "Install",
}
_REUSE: Final = (
    "The flake says `destroy = false`: disko may write the partition table anew, makes partitions and file systems that"
    " are missing, and mounts. All partitions and file systems of now must still be there afterwards."
)


def to_markdown(plan: Plan) -> str:
    """Return the plan for the artifact in Prefect's UI; text from the target is escaped."""
    origin = plan.origin
    who = origin.identity.describe() if origin.identity else "not on a tailnet"
    facts = [
        ("stage", plan.stage),
        *([("in use", plan.in_use)] if plan.in_use else []),
        ("system", f"{origin.os_name or '?'}, kernel {origin.kernel or '?'}, {origin.arch}"),
        ("memory", f"{gib(origin.memory_bytes)}, {gib(origin.available_bytes)} free with swap"),
        ("tailnet", who),
        ("SSH host key", origin.host_key),
        ("image", plan.image or f"not built yet{f', {plan.image_lock.short}' if plan.image_lock else ''}"),
        ("flake", plan.system.lock.short),
        ("installs", plan.system.toplevel.out),
        *([("built", f"by the target itself: {plan.builds_itself}")] if plan.builds_itself else []),
        ("carried over", ", ".join(plan.carried) or "nothing"),
        ("this plan", plan.digest[:SHORT]),
    ]
    course = course_of(plan)
    lines = [f"# {_TITLES[course]} {_cell(plan.host)}", "", f"From {_cell(plan.attribute)}, the {plan.way} way.", ""]
    if stop := stops(plan):
        lines += [f"**{stop[0].upper()}{stop[1:]}.** A run without `until` goes on from there.", ""]
    lines += [f"## {course}", "", f"{_cell(in_words(plan), longest=LONGEST_CONTENT)}.", ""]
    hypothetical = course in (Course.REHEARSED, Course.VERIFIED)
    if hypothetical:
        lines += ["These are the disks that an install would format:", ""]
    if course is not Course.LEFT_ALONE:
        lines += [*_table(plan.wipe), ""]
    if plan.reuse:
        used = "An install would use, and not wipe" if hypothetical else "Used, not wiped"
        lines += [f"## {used}", "", _REUSE, "", *_table(plan.reuse), ""]
    if plan.keep:
        kept = "An install would keep" if hypothetical else "Will not be touched"
        lines += [f"## {kept}", "", *_table(plan.keep), ""]
    if plan.warnings:
        lines += ["## Warnings", "", *(f"- {_cell(warning)}" for warning in plan.warnings), ""]
    rows = [f"| {key} | {_cell(value)} |" for key, value in facts]
    lines += ["## The machine", "", "| fact | value |", "|---|---|", *rows, ""]
    if plan.carries_state:
        lines += ["## The identity", "", *_verdict(plan), ""]
    if plan.way_back:
        lines += ["## The way back", "", *_way_back(plan), ""]
    if plan.way_out:
        lines += ["## The way out", "", *_way_out(plan), ""]
    if plan.way_in:
        rows = [f"| {about} | {_cell(known, longest=LONGEST_CONTENT)} |" for about, known in in_rows(plan.way_in)]
        lines += ["## The way in", "", "| what | known |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _verdict(plan: Plan) -> list[str]:
    """Return as Markdown whether the node can move, and what the node itself cannot show."""
    unseen = "Whether the control server treats it as ephemeral cannot be seen on it."
    if plan.way is Way.STANDARD:
        unseen += " If it does, it may remove the node while the installer runs, and the state is worth nothing."
    if not plan.verdict:
        return [f"The node shows nothing that prevents its move. {unseen}"]
    head = ["| the node is | seen | what happens | what you can do |", "|---|---|---|---|"]
    rows = [
        (f"{finding.name} (refused)" if finding.lost else finding.name, finding.seen, finding.happens, finding.hint)
        for finding in plan.verdict
    ]
    cells = [" | ".join(_cell(text, longest=LONGEST_CONTENT) for text in row) for row in rows]
    return [*head, *(f"| {row} |" for row in cells), "", unseen]


def _way_back(plan: Plan) -> list[str]:
    head = ["| | about | seen | what it means | what you can do |", "|---|---|---|---|---|"]
    rows = [(row.verdict, row.subject, row.seen, row.means, row.hint) for row in plan.way_back]
    return [*head, *(f"| {' | '.join(_cell(text, longest=LONGEST_CONTENT) for text in row)} |" for row in rows)]


def _way_out(plan: Plan) -> list[str]:
    head = ["| | link | now | in the installer |", "|---|---|---|---|"]
    rows = [(row.verdict, row.subject, row.now, f"{row.then}. {row.hint}".rstrip()) for row in plan.way_out]
    return [*head, *(f"| {' | '.join(_cell(text, longest=LONGEST_CONTENT) for text in row)} |" for row in rows)]


def _table(disks: tuple[PlannedDisk, ...]) -> list[str]:
    if not disks:
        return ["None."]
    head = [
        "| device | size | content | model | serial, WWN | health | now | by-id |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return head + [f"| {' | '.join(_row(disk))} |" for disk in disks]


def _row(disk: PlannedDisk) -> list[str]:
    by_id = "as configured" if disk.by_id == disk.device else disk.by_id or "none"
    ids = ", ".join(dict.fromkeys(text for text in (disk.serial, disk.wwid) if text)) or "none"
    size = f"{gib(disk.size_bytes)}, {disk.size_bytes} bytes"
    # Everything that would be lost, not only the first partitions.
    content = _cell(disk.content, longest=LONGEST_CONTENT)
    rest = (disk.model, ids, disk.health or "unknown", disk.name, by_id)
    return [_cell(disk.device), _cell(size), content, *(_cell(value) for value in rest)]


def _cell(text: str, *, longest: int = LONGEST_CELL) -> str:
    return in_markdown(text, longest)
