"""way-back.sh, its parser and its verdict on recorded origins (origins_table.py), under dash and busybox."""

from pathlib import Path

import pytest

from holdfast.facts.way_back import WayBackFacts
from holdfast.plan.way_back.origin import origin_rows
from holdfast.plan.way_back.row import Verdict
from tests.unit.cases import host
from tests.unit.origins import SHELLS
from tests.unit.origins_others import ALL
from tests.unit.origins_page import PAGE, page
from tests.unit.origins_table import FAMILIES, Case, worst

# Each system under both shells, and of the others every second one under each.
RUNS = [
    pytest.param(case, shell, id=f"{case.name}-{shell}")
    for number, case in enumerate(ALL)
    for shell in (SHELLS if number < FAMILIES else [SHELLS[0 if case.gnu else number % 2]])
]


@pytest.fixture(scope="module")
def told() -> dict[str, WayBackFacts]:
    """What way-back.sh told of the origins so far."""
    return {}


@pytest.mark.parametrize(("case", "shell"), RUNS)
def test_the_verdict(tmp_path: Path, case: Case, shell: str, told: dict[str, WayBackFacts]) -> None:
    seen = told[case.name] = case.make().look(tmp_path, shell)
    rows = tuple(origin_rows(seen, host()))
    bad = [row.in_one_line() for row in rows if row.verdict is not Verdict.FINE]
    shown = "\n".join(f"{row.verdict} {row.in_one_line()}" for row in rows)
    assert worst(rows) is case.verdict, shown
    assert len(bad) == len(case.said), shown
    for words in case.said:
        assert any(words in line for line in bad), shown
    assert {"tailscaled", "SSH"} <= {row.subject for row in rows}, shown
    assert len(seen.boot.fingerprint) == 64


def test_the_table_is_as_large_as_it_should_be() -> None:
    assert len(ALL) > 50
    assert len({case.name for case in ALL}) == len(ALL)


def test_the_page_says_what_this_version_says(told: dict[str, WayBackFacts]) -> None:
    if len(told) < len(ALL):
        pytest.skip("not all of the table was run")
    assert PAGE.read_text() == page(told), "write it anew: python -m tests.unit.origins_page"
