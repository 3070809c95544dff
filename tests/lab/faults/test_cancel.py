"""Somebody cancels the run in each of its phases, while the serving process hears of it, and while it is deaf."""

import time

import pytest

from lab.flow_runs import DEAF_AFTER_S, TASKS, cancel
from tests.lab.faults.journey import Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]


@pytest.mark.parametrize("deaf", [False, True], ids=["the runner hears", "the runner is deaf"])
def test_cancelled_in_each_phase(journey: Journey, deaf: bool) -> None:
    journey.start()
    # A run that is cancelled in its last phase may be done before it asks.
    for phase in TASKS[:-1]:
        journey.reach(phase)
        before = ", after the Prefect server was away" if deaf else ""
        with journey.fault(f"cancelled{before}", phase) as seen:
            with journey.held():
                if deaf and phase == TASKS[0]:  # the runner stays deaf for the rest of its life
                    journey.operator.restart_server(away_s=DEAF_AFTER_S)
                cancel(journey.operator, journey.run_id)
            pressed = time.monotonic()
            message = journey.ended("CANCELLED")
            took_s = time.monotonic() - pressed
            if deaf:
                assert message.startswith("cancelled in the phase ")
            seen.where = journey.where()
            journey.retry()
            seen.recovery = f"stopped after {took_s:.0f} s; Retry, {journey.go_on(phase)}"
    journey.finish()
