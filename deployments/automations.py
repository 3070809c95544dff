"""What the Prefect server does for Holdfast: it marks a run as crashed if the run's process is gone.

If a flow's process dies together with the process that started it (power cut, killed worker), nobody reports it. The
run would be shown as running for ever, and neither Retry nor the next run of that host could start. So runs send
heartbeats, and if they stop, the server marks the run as crashed.
"""

from datetime import timedelta
from typing import Final

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

TAG: Final = "holdfast"
"""All our deployments have this tag: the automation ignores other people's runs."""

HEARTBEAT_S: Final = 30
"""How often a run sends a heartbeat: Prefect's minimum."""

DEAD_AFTER_S: Final = 300
"""Longer than a server gets no heartbeats because it restarts, or is away for two minutes."""

DEAD_RUNS: Final = AutomationCore(
    name="holdfast: mark dead runs",
    description=f"Marks a run of Holdfast as crashed if it has sent no heartbeat for {DEAD_AFTER_S} s",
    trigger=EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={
            "prefect.flow-run.heartbeat",
            "prefect.flow-run.Completed",
            "prefect.flow-run.Failed",
            "prefect.flow-run.Cancelled",
            "prefect.flow-run.Crashed",
        },
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=ResourceSpecification(
            {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
        ),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=DEAD_AFTER_S),
    ),
    actions=[
        ChangeFlowRunState(
            state=StateType.CRASHED,
            name="Crashed",
            message="The run's process is gone. Nothing on the machine was undone. Retry continues from there.",
        )
    ],
)


def ensure_dead_runs_are_marked() -> None:
    """Create the automation, or update one of the same name."""
    with get_client(sync_client=True) as client:
        known = client.read_automations_by_name(DEAD_RUNS.name)
        for automation in known[1:]:
            client.delete_automation(automation.id)
        if not known:
            client.create_automation(DEAD_RUNS)
        elif not _same(known[0]):
            client.update_automation(known[0].id, DEAD_RUNS)


def _same(known: AutomationCore) -> bool:
    """Compare what Holdfast sets. A person may have paused the automation (`enabled`): that stays."""
    told = {"description", "trigger", "actions"}
    return known.model_dump(include=told) == DEAD_RUNS.model_dump(include=told)
