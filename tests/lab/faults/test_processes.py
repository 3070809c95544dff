"""Something of the operator's dies: the flow, the serving process, the Prefect server."""

from functools import partial

import pytest

from lab.flow_runs import ended, start
from tests.lab.faults.journey import TASKS, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

MARKED_WITHIN_S = 420
"""The automation marks a run without heartbeats; its own time is in deployments/automations.py."""


def _second_run_is_refused(journey: Journey, phase: str) -> None:
    with journey.fault("a second run of the same host", phase) as seen:
        journey.until_on_machine("the first run's lock", f"grep -q {journey.run_id} /run/holdfast/lock.json")
        second = ended(journey.operator, start(journey.operator))
        assert second["state"]["type"] == "FAILED"
        assert journey.run_id in second["state"]["message"], second["state"]["message"]
        seen.where = journey.where()
        seen.recovery = "second refused, first by itself"


def test_flow_killed_in_each_phase(journey: Journey) -> None:
    journey.start()
    for phase in TASKS:
        journey.reach(phase)
        if phase in ("kexec", "install"):
            _second_run_is_refused(journey, phase)
        journey.some_seconds(2)
        with journey.fault("flow process killed (-9)", phase) as seen:
            journey.operator.kill_flow(journey.run_id)
            journey.ended("CRASHED")
            seen.where = journey.where()
            if phase in ("preflight", "build", "preserve"):  # in the others it may be about to leave
                journey.origin_is_clean()
            journey.retry()
            seen.recovery = f"Retry, {journey.go_on(phase)}"
    journey.finish()


def test_retry_on_a_worker_that_has_nothing(journey: Journey) -> None:
    journey.start()
    for phase in ("preserve", "partition", "trial"):
        journey.reach(phase)
        journey.some_seconds(2)
        with journey.fault("flow killed, retried on a worker with empty folders", phase) as seen:
            journey.operator.kill_flow(journey.run_id)
            journey.ended("CRASHED")
            journey.operator.stop_serving()
            seen.where = journey.where()
            journey.operator.start_another_worker()
            journey.retry()
            seen.recovery = f"Retry there, {journey.go_on(phase)}"
    journey.finish()


def test_serving_process_and_flow_killed(journey: Journey) -> None:
    journey.start()
    journey.reach("install")
    journey.some_seconds(4)
    with journey.fault("serving process and flow killed (-9)", "install") as seen:
        journey.operator.kill_serving()
        journey.operator.kill_flow(journey.run_id)
        journey.ended("CRASHED", deadline_s=MARKED_WITHIN_S)
        seen.where = journey.where()
        journey.operator.start_serving()
        journey.start()
        journey.past("install")
        seen.recovery = "marked by the automation, fresh run"
    journey.finish()


def test_server_restarted_and_gone(journey: Journey) -> None:
    journey.start()
    for phase, gone_s in (("build", 0), ("partition", 0), ("install", 120), ("verify", 0)):
        journey.reach(phase)
        journey.some_seconds(1)
        name = f"Prefect server gone for {gone_s} s" if gone_s else "Prefect server restarted"
        journey.thrown(name, phase, partial(journey.operator.restart_server, away_s=gone_s))
    journey.finish()
