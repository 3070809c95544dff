"""What `just bench` makes of its measurements."""

import json
from pathlib import Path

from bench.install import parts
from bench.results import Machine, Measured, table, this_machine, write

MACHINE = Machine(date="2026-05-01", cpus=2, model="Some CPU", load_before=0.1, load_after=1.5)
FOUND = [Measured("upload", 3.0, "ssh cat", 2.0), Measured("phase kexec", 13.25)]


def test_table_shows_ratios_and_the_machine() -> None:
    assert table(MACHINE, FOUND).splitlines() == [
        "| what | seconds | beside | seconds | ratio |",
        "|---|---|---|---|---|",
        "| upload | 3.00 | ssh cat | 2.00 | 1.50 |",
        "| phase kexec | 13.25 |  |  |  |",
        "",
        "2026-05-01, 2 processors (Some CPU), the lab's machine emulated,",
        "load 0.1 before and 1.5 after.",
    ]


def test_numbers_are_written_as_json(tmp_path: Path) -> None:
    write(tmp_path / "new" / "bench.json", this_machine(0.5), FOUND)
    told = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert told["machine"]["load_before"] == 0.5
    assert [(row["what"], row["ratio"]) for row in told["measured"]] == [("upload", 1.5), ("phase kexec", None)]


def test_parts_of_an_install_come_from_its_report() -> None:
    phases = [{"name": "preflight", "seconds": 3.1}, {"name": "build", "seconds": 1.6}]
    report = {"phases": phases, "away_s": {"kexec": 25.0, "trial": None, "reboot": 22.4}}
    found = parts(report, began=1000.0, first_phase=1002.5, whole_s=157.0)
    assert [(each.what, each.seconds) for each in found] == [
        ("from the command to the first phase", 2.5),
        ("phase preflight", 3.1),
        ("phase build", 1.6),
        ("away at kexec", 25.0),
        ("away at reboot", 22.4),
        ("from the command to its end", 157.0),
    ]
