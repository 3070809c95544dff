"""Checks that an install was rehearsed, for a host whose inventory requires it."""

from collections.abc import Iterator
from itertools import count
from typing import Final

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from holdfast.base import clock
from holdfast.inventory.host import DAY_S, Host
from holdfast.plan.plan import Plan
from holdfast.plan.rehearsal import NODE_LABEL, Rehearsal, require_rehearsal
from holdfast.plan.results import Built, Rehearsed
from holdfast.plan.stage import Stage, observe
from holdfast.target.look import look
from tasks.run.log import say
from tasks.run.phase import phase
from tasks.run.this_run import machine_of

PAGE: Final = 50


@phase("rehearsed", retries=2)
def rehearsed(host: Host, plan: Plan, built: Built) -> Rehearsed:
    """Ask the Prefect server for a recent rehearsal of this machine. Changes nothing.

    Raises:
        TargetRefused: there is no such rehearsal; the message says what was found.
        ConfigError: the host uses the standard way, which cannot be rehearsed.

    """
    with machine_of(host, plan).connect() as target:
        stage = observe(look(target), built.toplevel).stage
    if stage is not Stage.ORIGIN:
        return Rehearsed(skipped=f"the {stage} system runs, so the machine has left its origin already")
    node_id = plan.origin.identity.node_id if plan.origin.identity else ""
    now = clock.utc()
    with get_client(sync_client=True) as client:
        found = require_rehearsal(host, node_id, rehearsals(client, host.name), now)
    age_days = round((now - found.ended_at).total_seconds() / DAY_S, 2)
    say(f"{host.name} was rehearsed {age_days:.1f} days ago, by run {found.run_id}")
    return Rehearsed(run_id=found.run_id, age_days=age_days)


def rehearsals(client: SyncPrefectClient, host: str) -> Iterator[Rehearsal]:
    """Return the successful rehearsals of a host that the Prefect server knows, newest first.

    The host is read from the run: one run may have other parameters than its deployment.
    """
    completed = FlowRunFilterStateType(any_=[StateType.COMPLETED])
    for offset in count(0, PAGE):
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["rehearse"])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=completed)),
            sort=FlowRunSort.END_TIME_DESC,
            limit=PAGE,
            offset=offset,
        )
        for run in runs:
            if run.parameters.get("host") == host and run.end_time is not None:
                yield Rehearsal(str(run.id), run.end_time, str(run.labels.get(NODE_LABEL, "")))
        if len(runs) < PAGE:
            return
