"""Pauses a run until a person resumes it with a form. Prefect's own wait does not see that the run is cancelled."""

from contextlib import suppress
from typing import TypeVar, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, FlowPauseTimeout
from prefect.input import RunInput
from prefect.input.run_input import keyset_from_paused_state
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Paused
from prefect.utilities.engine import propose_state_sync

from holdfast.base import brake, clock
from holdfast.base.deadline import Deadline
from holdfast.base.errors import UnexpectedState
from tasks.run.this_run import run_id

Form = TypeVar("Form", bound=RunInput)


def pause_flow_run(*, wait_for_input: type[Form], timeout: int, poll_interval: float, key: str) -> Form:
    """Pause this run, and return what the person typed who resumed it. As prefect.flow_runs.pause_flow_run.

    A server that does not answer meanwhile is asked again.

    Args:
        wait_for_input: the form.
        timeout: seconds that a person has.
        poll_interval: seconds between two looks.
        key: under which the answer is kept; a new key asks anew.

    Raises:
        FlowPauseTimeout: nobody resumed it in time.
        Stopped: the run is cancelled.
        UnexpectedState: the run may not pause, or somebody gave it another state.

    """
    this = UUID(run_id())
    paused: State[object] = Paused(timeout_seconds=timeout, pause_key=key)
    keyset = keyset_from_paused_state(paused)
    paused.state_details.run_input_keyset = {str(name): place for name, place in keyset.items()}
    with get_client(sync_client=True) as client:
        try:
            state = propose_state_sync(client, paused, flow_run_id=this)
        except Abort as error:
            brake.check(fresh=True)
            raise UnexpectedState(f"Prefect does not let this run pause: {error}.", hint="Start a new run.") from error
        if state.is_paused():
            wait_for_input.save(keyset, flow_run_id=this)
        deadline = Deadline.after(timeout)
        while not state.is_running():
            brake.check()
            if state.is_final():
                brake.check(fresh=True)
                raise UnexpectedState(f"this run was set to {state.name} while it was paused.", hint="Start a new run.")
            if deadline.passed():
                raise FlowPauseTimeout("Nobody resumed this run.")
            clock.sleep(min(poll_interval, deadline.timeout_s()))
            with suppress(httpx.HTTPError), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                state = client.read_flow_run(this).state or state
    # Prefect types it as either; outside async code it is the answer.
    return cast("Form", wait_for_input.load(keyset, flow_run_id=this))
