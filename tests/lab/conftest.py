"""A lab and an operator for the end-to-end tests; both end also when a test fails or is interrupted."""

import os
from collections.abc import Iterator

import pytest

from lab.operator import Operator
from lab.runtime import Lab
from tests.lab.matrix.table import Row, show
from tests.lab.table import Findings


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    if worker := os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw").replace("0", ""):
        os.environ.setdefault("HOLDFAST_LAB", f"run-{worker}")
    lab = Lab()
    try:
        lab.up()
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="session")
def operator(lab: Lab) -> Iterator[Operator]:
    with Operator(lab) as operator:
        yield operator


@pytest.fixture(scope="session")
def matrix(lab: Lab) -> Iterator[Findings[Row]]:
    """The rows of the matrix. Two installs of the usual tests are rows of it, too."""
    findings: Findings[Row] = Findings(lab.run_dir / "matrix.json")
    yield findings
    show(findings.rows)
