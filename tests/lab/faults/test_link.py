"""The link between operator and machine is cut, for seconds or minutes."""

import time

import pytest

from tests.lab.faults.journey import TASKS, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

SHORT_S = 20
LONG_S = 180
_PART = "/var/lib/holdfast/*.part"


def test_short_cut_in_each_phase(journey: Journey) -> None:
    journey.start()
    for phase in TASKS:
        journey.reach(phase)
        journey.some_seconds(2)
        with journey.fault(f"link cut for {SHORT_S} s", phase) as seen:
            journey.lab.cut_link()
            time.sleep(SHORT_S)
            journey.lab.mend_link()
            seen.where = journey.where()
            seen.recovery = journey.go_on(phase)
    journey.finish()


def test_long_cut_during_upload_and_install(journey: Journey) -> None:
    journey.start()
    for phase in ("kexec", "install"):
        journey.reach(phase)
        journey.some_seconds(4)
        with journey.fault(f"link cut for {LONG_S} s", phase) as seen:
            journey.lab.cut_link()
            time.sleep(LONG_S)
            journey.lab.mend_link()
            seen.where = journey.where()
            seen.recovery = journey.go_on(phase)
    journey.finish()


def test_upload_cut_and_damaged_on_the_way(journey: Journey) -> None:
    journey.start()
    journey.reach("kexec")
    journey.until_on_machine("a part of the image", f"test $(cat {_PART} | wc -c) -gt 8000000")
    with journey.fault("upload cut, and what had arrived damaged", "kexec") as seen:
        journey.on_machine(f"for part in {_PART}; do printf wrong | dd of=$part bs=1 seek=4096 conv=notrunc; done")
        journey.lab.cut_link()
        time.sleep(SHORT_S)
        journey.lab.mend_link()
        seen.where = journey.where()
        seen.recovery = journey.go_on("reconnect")
    journey.finish()
