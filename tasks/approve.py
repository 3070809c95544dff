"""Waits for a person's approval, if the host asks for it. Only a flow can pause, so this phase is not a task."""

from typing import Final

from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field, create_model

from holdfast.base.errors import TargetRefused
from holdfast.inventory.host import Host
from holdfast.plan.approval import nothing_to_approve, way_out, while_nobody_comes, why_ask
from holdfast.plan.markdown import to_markdown
from holdfast.plan.outlook import wipes
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Result
from holdfast.plan.stage import Stage, observe
from holdfast.target.look import look
from holdfast.target.units import has_begun
from tasks.run.log import say
from tasks.run.pausing import pause_flow_run
from tasks.run.phase import journaled
from tasks.run.this_run import machine_of

POLL_S: Final = 2


class Approved(RunInput):
    """The form in the UI (⋮, Resume)."""

    host: str


def form(host: Host, plan: Plan, why: str) -> type[Approved]:
    """Return the form: what is lost comes first, and its field says what to type.

    Args:
        host: the host.
        plan: its plan.
        why: why a person is asked.

    """
    asked = (str, Field(min_length=1, title=f"Type {host.name} to approve"))
    text = f"**{wipes(plan)}.**\n\nYou are asked because {why}.\n\n{to_markdown(plan)}"
    return create_model("Approved", __base__=Approved, host=asked).with_initial_data(description=text)


def approve(host: Host, plan: Plan, built: Built) -> Plan:
    """Show the plan and wait until a person resumes the run, at most `host.deadlines.approval_s` seconds.

    It comes after `build`, so that nobody is asked for what cannot be built.

    Returns:
        The plan, cleared if a person approved it, or if its formatting has begun: the phases after this one go by that.

    Raises:
        TargetRefused: nobody approved in time, or the typed name was wrong; nothing was changed on the target.

    """
    with journaled("approve", host, plan) as done:
        why = why_ask(host, plan)
        if not why:
            done(Result(skipped="no approval is asked for"))
            return plan
        machine = machine_of(host, plan)
        with machine.wait_and_connect() as target:
            facts = look(target)
            begun = observe(facts).stage is Stage.INSTALLER and has_begun(target, plan.formatting)
        if nothing := nothing_to_approve(plan, facts, built, begun=begun):
            done(Result(skipped=nothing))
            return plan.model_copy(update={"cleared": begun})
        say(
            f"waiting for a person to approve the plan for {host.name}, because {why}: see the run's Artifacts, then ⋮"
            f" and Resume, within {host.deadlines.approval_s:.0f} s"
        )
        machine.let_go()  # a person may take days
        try:
            answer = pause_flow_run(
                wait_for_input=form(host, plan, why),
                timeout=int(host.deadlines.approval_s),
                poll_interval=POLL_S,
                key=f"approve-{flow_run.get_run_count()}",  # each start of the run asks anew
            )
        except FlowPauseTimeout as error:
            raise TargetRefused(
                f"nobody approved the plan for {host.name} within {host.deadlines.approval_s:.0f} s, and a person"
                f" has to, because {why}; {while_nobody_comes(host, facts)}.",
                hint=way_out(plan),
            ) from error
        if answer.host != host.name:
            raise TargetRefused(
                f"the plan for {host.name} was not approved: another name was typed;"
                f" {while_nobody_comes(host, facts)}.",
                hint="Retry the run and type the host's name.",
            )
        done(Result())
        return plan.model_copy(update={"cleared": True})
