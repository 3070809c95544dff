"""The machine's power fails."""

import pytest

from tests.lab.faults.journey import INSTALLER, ORIGIN, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

FAULT = "power cut"


def test_power_cut_before_the_installer_runs(journey: Journey) -> None:
    journey.start()
    for phase in ("preflight", "build", "preserve", "kexec"):
        journey.reach(phase)
        journey.some_seconds(2)
        with journey.fault(FAULT, phase) as seen:
            journey.lab.power_cycle()
            seen.where = journey.where()
            assert seen.where == ORIGIN
            seen.recovery = journey.go_on(phase)
    journey.finish()


def test_power_cut_in_the_installer_before_the_disk_is_touched(journey: Journey) -> None:
    journey.start()
    journey.reach("reconnect")
    assert journey.until_where(INSTALLER) == INSTALLER
    with journey.fault(FAULT, "reconnect") as seen:
        journey.lab.power_cycle()
        seen.where = journey.where()
        assert seen.where == ORIGIN
        assert "came back in its origin" in journey.ended("FAILED")
        journey.start()
        seen.recovery = "fresh run"
        journey.past("reconnect")
    journey.finish()


def test_power_cut_when_the_disk_is_new(journey: Journey) -> None:
    journey.start()
    for phase in ("install", "restore", "reboot", "verify"):
        journey.reach(phase)
        journey.some_seconds(3)
        with journey.fault(FAULT, phase) as seen:
            journey.lab.power_cycle()
            seen.where = journey.where()
            seen.recovery = journey.go_on(phase)
    journey.finish()
