"""An installed machine is installed again: not by itself, only with the word and a person."""

import pytest

from lab.flow_runs import answer, ended, report_of, start
from tests.lab.changed import changed_flake
from tests.lab.faults.journey import FINAL, INSTALLER, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]


def test_reinstall(journey: Journey) -> None:
    journey.start()
    first = journey.finish()["closure"]["booted"]
    with changed_flake(journey.lab):
        with journey.fault("a fresh run with a changed flake, disks pinned", "preflight") as seen:
            journey.start()
            journey.ended("COMPLETED")
            seen.where = journey.where()
            assert seen.where == FINAL
            assert journey.on_machine("readlink /run/booted-system") == first
            seen.recovery = "left alone"
        with journey.fault("a rehearsal of it is killed in the installer, then a fresh run", "preflight") as seen:
            journey.run_id = start(journey.operator, "rehearse/cottage")
            assert journey.until_where(INSTALLER, 300) == INSTALLER
            journey.kill_flow()
            run = ended(journey.operator, start(journey.operator))
            assert run["state"]["name"] == "Installed already", run["state"]
            seen.where = journey.where()
            assert seen.where == INSTALLER
            seen.recovery = "left alone"
        with journey.fault("a fresh run that says reinstall, and a person", "approve") as seen:
            journey.run_id = start(journey.operator, reinstall=True)
            answer(journey.operator, journey.run_id, "cottage")
            seen.where = journey.where()
            journey.past("approve")
            seen.recovery = "approved"
        booted = journey.finish()["closure"]["booted"]
    assert booted != first
    outcomes = {phase["name"]: phase["outcome"] for phase in report_of(journey.operator, journey.run_id)["phases"]}
    assert outcomes["partition"] == "done"
