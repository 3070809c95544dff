"""Each kind of machine and disk is installed, with a power cut when the disk is formatted."""

import pytest

from tests.lab.matrix.conftest import Begin
from tests.lab.matrix.row import install_with_power_cut
from tests.lab.matrix.table import KINDS, Kind, Row
from tests.lab.table import Findings

pytestmark = [pytest.mark.lab, pytest.mark.matrix]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.layout for kind in KINDS])
def test_kind_is_installed(begin: Begin, matrix: Findings[Row], kind: Kind) -> None:
    with begin(kind.layout, kind.hardware) as journey:
        install_with_power_cut(journey, kind, matrix)
