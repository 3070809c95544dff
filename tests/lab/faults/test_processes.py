"""A process that an install needs dies: the worker with its flow, the Prefect server, the control server."""

import signal
from functools import partial

import pytest

from tests.lab.faults.journey import INSTALLER, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

MARKED_WITHIN_S = 420
"""In seconds. The automation marks a run without heartbeats after DEAD_AFTER_S (deployments/automations.py)."""


def _server_goes(journey: Journey, phase: str, gone_s: float = 0) -> None:
    journey.reach(phase)
    journey.some_seconds(1)
    name = f"Prefect server gone for {gone_s} s" if gone_s else "Prefect server restarted"
    journey.thrown(name, phase, partial(journey.operator.restart_server, away_s=gone_s))


def _worker_is_lost(journey: Journey, phase: str) -> None:
    journey.reach(phase)
    journey.some_seconds(2)
    with journey.fault("flow killed, retried on a worker with empty folders", phase) as seen:
        journey.kill_flow()
        journey.operator.stop_serving()
        seen.where = journey.where()
        journey.operator.start_another_worker()
        journey.retry()
        seen.recovery = f"Retry there, {journey.go_on(phase)}"


def _control_server_goes(journey: Journey) -> None:
    journey.reach("reconnect")
    with journey.fault("control server away for 60 s around kexec", "reconnect") as seen:
        with journey.no_control_server():
            seen.where = journey.until_where(INSTALLER)
            journey.wait(60)
        seen.recovery = journey.go_on("reconnect")


def _nobody_is_left_to_say_it(journey: Journey, phase: str) -> None:
    journey.reach(phase)
    journey.some_seconds(2)
    with journey.fault("serving process and flow killed (-9)", phase) as seen:
        journey.operator.kill_serving()
        journey.operator.signal_flow(journey.run_id, signal.SIGKILL)
        journey.ended("CRASHED", deadline_s=MARKED_WITHIN_S)
        seen.where = journey.where()
        journey.operator.start_serving()
        journey.start()
        journey.past(phase)
        seen.recovery = "marked by the automation, fresh run"


def test_servers_and_workers_die(journey: Journey) -> None:
    journey.start()
    _server_goes(journey, "build")
    _worker_is_lost(journey, "preserve")
    _server_goes(journey, "kexec")
    _control_server_goes(journey)
    _worker_is_lost(journey, "partition")
    _server_goes(journey, "install", gone_s=120)
    _nobody_is_left_to_say_it(journey, "restore")
    _server_goes(journey, "trial")
    _worker_is_lost(journey, "reboot")
    _server_goes(journey, "verify")
    journey.finish()
