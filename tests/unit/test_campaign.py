"""The campaigns of the lab: what they run, and the tables that they print and leave."""

from pathlib import Path

import pytest

from tests.lab import campaign, table
from tests.lab.matrix.table import COLUMNS, KINDS, Row, without_row

ROW = Row("BIOS", "extlinux", "ext4", "yes", "started", "yes", 9.6)


def test_lab_that_does_not_come_up_shows_no_rows_of_an_earlier_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "PROJECT", tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "")
    run = tmp_path / "lab" / "run"
    run.mkdir(parents=True)
    earlier: table.Findings[Row] = table.Findings(run / "rows.json")
    earlier.add(ROW)
    assert table.read(run / "rows.json", Row) == [ROW]

    failed = campaign.run_labs("matrix", tmp_path, {"run": ("test_gone.py",)}, ("rows.json",))

    assert failed == [run / "campaign.log"]
    assert "test_gone.py" in failed[0].read_text()
    assert table.read(run / "rows.json", Row) == []


def test_error_of_several_lines_stays_in_its_cell() -> None:
    broken = Row("BIOS", "GRUB", "ext4", "FAILED: assert 'a' == 'b'\n  - b | c", "-", "-", 1)
    assert table.to_markdown(COLUMNS, [broken]).splitlines()[2:] == [
        "| BIOS | GRUB | ext4 | FAILED: assert 'a' == 'b' - b \\| c | - | - | 1 |"
    ]


def test_kinds_without_a_row_are_named() -> None:
    assert without_row([ROW]) == [kind.layout for kind in KINDS if kind.layout != "plain"]
