"""The machine's power fails."""

import pytest

from tests.lab.faults.journey import INSTALLER, ORIGIN, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

FAULT = "power cut"


def test_power_cut_in_each_phase(journey: Journey) -> None:
    journey.start()
    for phase in ("preflight", "build", "preserve", "kexec"):
        journey.reach(phase)
        journey.some_seconds(2)
        journey.thrown(FAULT, phase, journey.lab.power_cycle)
    for phase, said in (("reconnect", "came back in its origin"), ("partition", "was rebooted")):
        journey.reach(phase)
        with journey.fault(FAULT, phase) as seen:
            journey.lab.power_cycle()
            seen.where = journey.where()
            assert seen.where == ORIGIN
            assert said in journey.ended("FAILED")
            journey.retry()
            journey.past(phase)
            seen.recovery = "Retry"
    journey.reach("install")
    journey.some_seconds(10)
    with journey.fault(f"{FAULT}, the new disk not bootable yet", "install") as seen:
        journey.lab.power_cycle()
        seen.where = journey.where()
        assert seen.where == INSTALLER, "the standby did not boot"
        seen.recovery = journey.go_on("install")
    for phase in ("restore", "trial", "reboot", "verify"):
        journey.reach(phase)
        journey.some_seconds(1)
        journey.thrown(FAULT, phase, journey.lab.power_cycle)
    journey.finish()
    assert journey.on_machine("ls /boot/holdfast 2>/dev/null || true") == "", "the standby is still there"
