"""One lab for all journeys. For each the machine goes back to the same saved moment."""

from collections.abc import Iterator

import pytest

from lab.operator import Operator
from lab.runtime import Lab
from tests.lab.faults.journey import Journey
from tests.lab.faults.table import Row, show
from tests.lab.table import Findings


@pytest.fixture(scope="session")
def findings(lab: Lab) -> Iterator[Findings[Row]]:
    findings: Findings[Row] = Findings(lab.run_dir / "faults.json")
    yield findings
    show(findings.rows)


@pytest.fixture(scope="package")
def remembered(lab: Lab) -> Iterator[str]:
    """The machine in its origin, with data on its other disk; afterwards it is put back to that for other tests."""
    lab.ssh_local(["sh", "-c", "head -c 4M /dev/urandom >/dev/disk/by-id/virtio-DATA0001; sync"])
    lab.remember("origin")
    yield "origin"
    lab.return_to("origin")
    lab.wait_for_ssh()


@pytest.fixture
def journey(lab: Lab, operator: Operator, remembered: str, findings: Findings[Row]) -> Iterator[Journey]:
    journey = Journey(lab, operator, findings)
    try:
        journey.begin(remembered)
        yield journey
    finally:
        journey.end()
