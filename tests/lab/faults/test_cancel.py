"""Somebody cancels the run in each of its phases, after the Prefect server was away."""

import pytest

from lab.flow_runs import DEAF_AFTER_S, TASKS, cancel
from tests.lab.faults.journey import Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]


def test_cancelled_in_each_phase(journey: Journey) -> None:
    journey.start()
    # A run that is cancelled in its last phase may be done before it asks.
    for phase in TASKS[:-1]:
        journey.reach(phase)
        with journey.fault("cancelled, after the Prefect server was away", phase) as seen:
            with journey.held():
                journey.operator.restart_server(away_s=DEAF_AFTER_S)
                cancel(journey.operator, journey.run_id)
            assert journey.ended("CANCELLED").startswith("cancelled in the phase ")
            seen.where = journey.where()
            journey.retry()
            seen.recovery = f"Retry, {journey.go_on(phase)}"
    journey.finish()
