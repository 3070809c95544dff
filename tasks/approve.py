"""Waits for a person, if the host asks for one. A pause belongs to the flow: this is the one phase that is no task."""

from typing import Final

from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from tasks.model.errors import TargetRefused
from tasks.model.host import Approval, Host
from tasks.model.plan import Plan
from tasks.model.results import Result
from tasks.phase import journaled, say

POLL_S: Final = 2


class Approved(RunInput):
    """The form in the UI (⋮, Resume)."""

    host: str = Field(description="Type the host's name: its disks in the plan will be wiped")


def approve(host: Host, plan: Plan) -> None:
    """Show the plan and wait until a person resumes the run, at most `host.deadlines.approval_s` seconds.

    Raises:
        TargetRefused: nobody came, or the name was wrong; nothing was changed on the target.

    """
    with journaled("approve") as done:
        if host.approval is not Approval.ALWAYS or plan.resumes:
            done(Result(skipped="no approval is asked for"))
            return
        say(f"waiting for a person to approve the plan for {host.name}: see the run's Artifacts, then ⋮ and Resume")
        form = Approved.with_initial_data(description=plan.to_markdown(), host="")
        try:
            answer = pause_flow_run(
                wait_for_input=form,
                timeout=int(host.deadlines.approval_s),
                poll_interval=POLL_S,
                key=f"approve-{flow_run.get_run_count()}",  # else an old answer is replayed on retry
            )
        except FlowPauseTimeout as error:
            raise TargetRefused(
                f"nobody approved the plan for {host.name} in {host.deadlines.approval_s:.0f} s;"
                " nothing was changed on it.",
                hint="Start the run again when somebody is there to approve it.",
            ) from error
        if answer.host != host.name:
            raise TargetRefused(
                f"the plan for {host.name} was not approved: another name was typed; nothing was changed on it.",
                hint="Retry the run and type the host's name.",
            )
        done(Result())
