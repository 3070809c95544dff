"""The runs that wait when somebody begins to serve: what will become of each."""

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime
from itertools import count
from typing import Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from holdfast.base.text import duration

PAGE: Final = 200
# Prefect plans a hundred runs of each schedule.
MOST: Final = 2000


def waiting(client: SyncPrefectClient, deployments: Collection[str], now: datetime, late_s: float) -> Iterator[str]:
    """Say of each run of these deployments that waits for how long, and what will happen to it.

    Args:
        client: of the Prefect server.
        deployments: as `install/cottage`; those that the server does not know have no runs.
        now: the time.
        late_s: how late a run may begin, in seconds.

    """
    names: dict[UUID, str] = {}
    for name in deployments:
        try:
            names[client.read_deployment_by_name(name).id] = name
        except ObjectNotFound:
            continue
    planned: Counter[str] = Counter()
    for run in _runs(client, DeploymentFilter(id=DeploymentFilterId(any_=list(names)))) if names else ():
        if run.deployment_id is None or run.state is None:
            continue
        name = names[run.deployment_id]
        due = run.next_scheduled_start_time or run.expected_start_time or run.state.timestamp
        if not (run.state.is_scheduled() and due > now):
            yield f"{name}, run {run.id}: {run.state.name}, {_fate(run, (now - due).total_seconds(), late_s)}"
            continue
        planned[name] += 1
        if planned[name] == 1:
            yield f"{name}, run {run.id}: planned, begins in {duration((due - now).total_seconds())}"
    for name, number in planned.items():
        if number > 1:
            yield f"{name}: {number - 1} more {'runs are' if number > 2 else 'run is'} planned after that"


def _fate(run: FlowRun, late_by_s: float, late_s: float) -> str:
    assert run.state is not None
    if run.state.is_paused():
        return f"waits for a person for {duration(late_by_s)}: Resume it or Cancel it in Prefect"
    if run.state.is_pending():
        return f"for {duration(late_by_s)}: another process took it; if that is gone, Cancel it in Prefect"
    due = f"was due {duration(late_by_s)} ago"
    if late_by_s > late_s:
        return f"{due}: ends at once and changes nothing, because that is too late (HOLDFAST_LATE_S)"
    return f"{due}: begins now; Cancel it in Prefect if nobody wants it"


def _runs(client: SyncPrefectClient, of: DeploymentFilter) -> Iterator[FlowRun]:
    types = FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED])
    for offset in count(0, PAGE):
        page = client.read_flow_runs(
            deployment_filter=of,
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=types)),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=PAGE,
            offset=offset,
        )
        yield from page
        if len(page) < PAGE or offset + PAGE >= MOST:
            return
