"""`just plan HOST [TARGET] [KEXEC]`: shows what an install would do; changes nothing and needs no Prefect server.

It looks at the target like the phase `preflight`. TARGET and KEXEC replace what the inventory says. It refuses an
unknown host key: only a run pins one.
"""

import sys
import tempfile
from pathlib import Path

from rich.markdown import Markdown

from deployments.terminal import TerminalLog, console
from holdfast.base.errors import HoldfastError, TargetRefused
from holdfast.base.settings import settings
from holdfast.base.text import printable
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host
from holdfast.inventory.loading import chosen_host
from holdfast.plan.approval import why_ask
from holdfast.plan.markdown import to_markdown
from holdfast.plan.outlook import Course, course_of
from holdfast.plan.plan import Plan
from holdfast.ssh.connection import Connection
from holdfast.target import lock
from holdfast.target.machine import Machine
from holdfast.target.planning import plan_install

WIDTH_OF_A_FILE = 160


def main(host_name: str, target: str = "", kexec: str = "") -> int:
    """Print the plan, and whether a person will be asked. Return 2 if an install would be refused."""
    if flag := next((word for word in (host_name, target, kexec) if word.startswith("-")), ""):
        print(f"plan: there is no flag {printable(flag)[:80]}. Hint: just plan HOST [TARGET] [KEXEC]", file=sys.stderr)
        return 2
    try:
        host = chosen_host(settings().inventory, host_name, target=target, image=kexec)
        with tempfile.TemporaryDirectory(prefix="holdfast-plan-") as folder:
            plan = plan_install(
                Machine(host, TerminalLog("plan")),
                run_id="",
                folder=Path(folder),
                rehearsal=False,
                reinstall=False,
                first_use=False,
                check_lock=_tell_of_lock,
            )
    except HoldfastError as error:
        print(f"plan: {error}", file=sys.stderr)
        return 2
    out = console(WIDTH_OF_A_FILE)
    out.print(Markdown(to_markdown(plan), hyperlinks=False))
    out.print(f"\n{asked(host, plan)}", markup=False, highlight=False, soft_wrap=True)
    return 0


def asked(host: Host, plan: Plan) -> str:
    """Say whether a person will be asked before anything is changed, and why."""
    course, why = course_of(plan), why_ask(host, plan)
    if course in (Course.LEFT_ALONE, Course.VERIFIED):
        return f"Nobody will be asked: {course.lower()}."
    if course is Course.RESUMED:
        resumed = "Nobody will be asked if the disks were formatted for this plan."
        return f"{resumed} Otherwise a person will be asked, because {why}." if why else resumed
    if not why:
        pinned = "all disks to be wiped are pinned" if all(disk.pinned for disk in plan.wipe) else "approve = never"
        return f"Nobody will be asked before these disks are wiped: {pinned}."
    return f"A person will be asked before these disks are wiped, because {why}."


def _tell_of_lock(target: Connection, facts: Facts) -> None:
    """Say so if a run works on the target; the plan is shown all the same."""
    try:
        lock.check(target, "", lambda _run: None, mark=facts.installer_mark)
    except TargetRefused as error:
        print(f"plan: an install would have to wait: {error.message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
