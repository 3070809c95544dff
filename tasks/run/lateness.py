"""A run that begins long after it was due: nobody expects it any more, so it ends at once and changes nothing.

So ends a run that was created while nobody served the deployments, and one whose window passed while the operator was
asleep.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import State

from holdfast.base import clock
from holdfast.base.settings import settings
from holdfast.base.text import duration
from tasks.run.this_run import run_id

# Prefect waits so for a free slot of a concurrency limit: the run itself is due since before.
_WAITS_FOR_A_SLOT: Final = "AwaitingConcurrencySlot"


def due_at(states: Iterable[State]) -> datetime | None:
    """Return when the present start of a run was due; None if it was started without a time.

    A Retry is due when it is pressed. A pause is no start.

    Args:
        states: all states of the run, in any order.

    """
    planned = [state for state in states if state.is_scheduled() and state.name != _WAITS_FOR_A_SLOT]
    last = max(planned, key=lambda state: state.timestamp, default=None)
    return (last.state_details.scheduled_time or last.timestamp) if last else None


def too_late() -> str:
    """Return why this run must not begin any more, with the way on; empty if it may begin."""
    with get_client(sync_client=True) as client:
        due = due_at(client.read_flow_run_states(UUID(run_id())))
    late_s = (clock.utc() - due).total_seconds() if due else 0.0
    if late_s <= settings().late_s:
        return ""
    return (
        f"this run begins {duration(late_s)} after it was due, which is more than {duration(settings().late_s)}"
        " (HOLDFAST_LATE_S): it ends here and has changed nothing. Hint: if it is wanted now, Retry it or start a new"
        " one. If it was started just now, the clocks of this machine and of the Prefect server differ: set them."
    )
