"""What the Prefect server does by itself for Holdfast: it marks runs whose process is gone.

A flow's process that dies with the one that started it (power cut, killed worker) cannot say so, and its run would be
shown as running for ever: neither Retry nor the next run of that host could start. So runs send heartbeats, and
when they stay away the server marks the run as crashed.
"""

from datetime import timedelta
from typing import Final

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

TAG: Final = "holdfast"
"""On all our deployments: the automation leaves other people's runs alone."""

HEARTBEAT_S: Final = 30
"""How often a run says that it lives: Prefect's minimum."""

DEAD_AFTER_S: Final = 300
"""Longer than a server that restarts, or is away for two minutes, hears of nobody."""

DEAD_RUNS: Final = AutomationCore(
    name="holdfast: mark dead runs",
    description=f"Marks a run of Holdfast as crashed when its process was not heard of for {DEAD_AFTER_S} s",
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
            message="Its process is gone. The machine keeps what it was given: Retry goes on from what it finds there.",
        )
    ],
)


def ensure_dead_runs_are_marked() -> None:
    """Create the automation, or bring an older one of its name up to date."""
    with get_client(sync_client=True) as client:
        known = client.read_automations_by_name(DEAD_RUNS.name)
        for automation in known[1:]:
            client.delete_automation(automation.id)
        if not known:
            client.create_automation(DEAD_RUNS)
        elif not _same(known[0]):
            client.update_automation(known[0].id, DEAD_RUNS)


def _same(known: AutomationCore) -> bool:
    """Compare what we set; a person may have paused it (`enabled`), which stays."""
    told = {"description", "trigger", "actions"}
    return known.model_dump(include=told) == DEAD_RUNS.model_dump(include=told)
