"""One lab and one operator for the end-to-end tests; both end also when a test fails or is interrupted."""

from collections.abc import Iterator

import pytest

from lab.operator import Operator
from lab.runtime import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
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
