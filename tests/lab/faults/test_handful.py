"""The faults of every run of the tests: one of each kind, in one install. `./just faults` has them all.

The install is also a row of the matrix: a BIOS with GRUB.
"""

import time
from collections.abc import Iterator

import pytest

from lab.final import flake_dir
from tests.lab.faults.journey import INSTALLER, Journey
from tests.lab.matrix.table import Kind, Row, kind_of, row
from tests.lab.table import Findings

pytestmark = pytest.mark.lab


@pytest.fixture
def grub(journey: Journey) -> Iterator[Kind]:
    """The layout of the new disk with GRUB, until the test is over."""
    kind = kind_of("grub")
    flake_dir(journey.lab.run_dir, kind.layout)
    yield kind
    flake_dir(journey.lab.run_dir)


def test_one_install_with_faults_of_each_kind(journey: Journey, grub: Kind, matrix: Findings[Row]) -> None:
    began = time.monotonic()
    journey.start()
    journey.reach("kexec")
    journey.until_on_machine("a part of the image", "test $(cat /var/lib/holdfast/*.part | wc -c) -gt 4000000")
    journey.thrown("upload cut for 20 s", "kexec", lambda: journey.cut(20))
    journey.reach("partition")
    with journey.fault("flow killed, retried on a worker with empty folders", "partition") as seen:
        journey.kill_flow()
        seen.where = journey.where()
        assert seen.where == INSTALLER
        journey.operator.stop_serving()
        journey.operator.start_another_worker()
        journey.retry()
        seen.recovery = f"Retry there, {journey.go_on('partition')}"
    journey.reach("install")
    with journey.fault("flow killed, then a fresh run", "install") as seen:
        journey.kill_flow()
        seen.where = journey.where()
        assert seen.where == INSTALLER
        journey.start()
        seen.recovery = f"fresh run, {journey.go_on('install')}"
    journey.reach("restore")
    with journey.fault("power cut", "restore") as seen:
        journey.lab.power_cycle()
        seen.where = journey.until_where(INSTALLER)
        assert seen.where == INSTALLER, "the standby did not boot"
        seen.recovery = journey.go_on("restore")
    report = journey.finish()
    found = row(grub, report, standby="started", seconds=time.monotonic() - began)
    matrix.add(found)
    assert found.trial == "yes"
    outcomes = {phase["name"]: phase["outcome"] for phase in report["phases"]}
    assert outcomes["kexec"] == outcomes["partition"] == "skipped", outcomes
