"""The link between operator and machine is cut, for seconds or minutes."""

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
        journey.thrown(f"link cut for {SHORT_S} s", phase, lambda: journey.cut(SHORT_S))
    journey.finish()


@pytest.mark.timeout(5400)
def test_long_cut_in_each_phase(journey: Journey) -> None:
    journey.start()
    for phase in TASKS:
        journey.reach(phase)
        journey.some_seconds(2)
        journey.thrown(f"link cut for {LONG_S} s", phase, lambda: journey.cut(LONG_S))
    journey.finish()


def test_upload_cut_and_damaged_on_the_way(journey: Journey) -> None:
    def damage_and_cut() -> None:
        journey.on_machine(f"for part in {_PART}; do printf wrong | dd of=$part bs=1 seek=4096 conv=notrunc; done")
        journey.cut(SHORT_S)

    journey.start()
    journey.reach("kexec")
    journey.until_on_machine("a part of the image", f"test $(cat {_PART} | wc -c) -gt 8000000")
    journey.thrown("upload cut, and what had arrived damaged", "kexec", damage_and_cut)
    journey.finish()
