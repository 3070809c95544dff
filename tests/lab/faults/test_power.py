"""The machine's power fails."""

import pytest

from tests.lab.faults.journey import INSTALLER, ORIGIN, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

FAULT = "power cut"


def test_power_cut_before_the_disk_is_touched(journey: Journey) -> None:
    journey.start()
    for phase in ("preflight", "build", "preserve", "kexec"):
        journey.reach(phase)
        journey.some_seconds(2)
        journey.thrown(FAULT, phase, journey.lab.power_cycle)
    journey.reach("reconnect")
    assert journey.until_where(INSTALLER) == INSTALLER
    with journey.fault(FAULT, "reconnect") as seen:
        journey.lab.power_cycle()
        seen.where = journey.where()
        assert seen.where == ORIGIN
        assert "came back in its origin" in journey.ended("FAILED")
        journey.start()
        journey.past("reconnect")
        seen.recovery = "fresh run"
    journey.finish()


def test_power_cut_when_the_disk_is_new(journey: Journey) -> None:
    journey.start()
    journey.reach("install")
    journey.some_seconds(10)
    with journey.fault(FAULT, "install") as seen:
        journey.lab.power_cycle()
        seen.where = journey.where()
        assert seen.where == INSTALLER, "the standby did not boot"
        seen.recovery = journey.go_on("install")
    for phase in ("restore", "reboot", "verify"):
        journey.reach(phase)
        journey.some_seconds(1)
        journey.thrown(FAULT, phase, journey.lab.power_cycle)
    journey.finish()
    assert journey.on_machine("ls /boot/holdfast 2>/dev/null || true") == "", "the standby is still there"
