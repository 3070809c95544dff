"""Faults that can happen in every phase: the flow dies, the link is cut."""

import pytest

from lab.flow_runs import TASKS, ended, phases_before, start
from tests.lab.faults.journey import Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

SHORT_S = 20
LONG_S = 180


def _second_run_is_refused(journey: Journey, phase: str) -> None:
    with journey.fault("a second run of the same host", phase) as seen:
        journey.until_on_machine("the first run's lock", f"grep -q {journey.run_id} /run/holdfast/lock.json")
        second = ended(journey.operator, start(journey.operator))
        assert second["state"]["type"] == "FAILED"
        assert journey.run_id in second["state"]["message"], second["state"]["message"]
        seen.where = journey.where()
        seen.recovery = "second refused, first by itself"


def test_flow_killed_and_link_cut_in_its_retry(journey: Journey) -> None:
    journey.start()
    for phase in TASKS:
        journey.reach(phase)
        if phase in ("kexec", "install"):
            _second_run_is_refused(journey, phase)
        journey.some_seconds(2)
        journey.arguments_are_clean()
        with journey.fault("flow process killed (-9)", phase) as seen:
            journey.kill_flow()
            seen.where = journey.where()
            if phase in phases_before("kexec"):  # in a later one the machine may be about to leave
                journey.origin_is_clean()
            seen.recovery = "Retry"
            journey.retry()
            journey.reach(phase)
        journey.some_seconds(2)
        journey.thrown(f"link cut for {SHORT_S} s", phase, lambda: journey.cut(SHORT_S))
    journey.finish()


def test_long_cut(journey: Journey) -> None:
    journey.start()
    for phase in TASKS:
        journey.reach(phase)
        if phase == "kexec":
            journey.until_kexec_run()
        else:
            journey.some_seconds(2)
        journey.thrown(f"link cut for {LONG_S} s", phase, lambda: journey.cut(LONG_S))
    journey.finish()
