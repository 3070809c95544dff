"""The table of the campaign: a row for each fault in each phase."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.flow_runs import PHASES


@dataclass(frozen=True, slots=True)
class Row:
    """One fault in one phase.

    Attributes:
        fault: what was done.
        phase: the phase that ran at that time.
        where: the system that ran on the machine after the fault.
        recovery: what let the install go on: `by itself`, `Retry`, `fresh run`, …
        outcome: `recovered`, or what went wrong.
        seconds: from the fault until the phase was over.

    """

    fault: str
    phase: str
    where: str
    recovery: str
    outcome: str
    seconds: float


def show(rows: Sequence[Row]) -> None:
    """Print the table to the terminal."""
    table = Table(title=f"{len(rows)} faults, {sum(row.outcome == 'recovered' for row in rows)} recovered")
    for column in ("fault", "phase", "machine", "went on by", "outcome", "seconds"):
        table.add_column(column)
    for row in rows:
        table.add_row(row.fault, row.phase, row.where, row.recovery, row.outcome, f"{row.seconds:.0f}")
    Console(width=160).print(table)


def read(path: Path) -> list[Row]:
    """Return the rows of a file that `Findings` wrote; none if there is no such file."""
    return [Row(**row) for row in json.loads(path.read_text())] if path.is_file() else []


def by_fault(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of each fault together, in the order of the phases."""
    first = [row.fault for row in rows]
    return sorted(rows, key=lambda row: (first.index(row.fault), PHASES.index(row.phase)))


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the table for docs/faults.md."""
    lines = [f"| {r.fault} | {r.phase} | {r.where} | {r.recovery} | {r.outcome} | {r.seconds:.0f} |\n" for r in rows]
    return (
        "| fault | phase | machine was in | went on by | outcome | seconds |\n|---|---|---|---|---|---:|\n"
        + "".join(lines)
    )


class Findings:
    """The rows; also written to a file at once, so that an interrupted campaign still leaves its rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Add a row."""
        self.rows.append(row)
        self._path.write_text(json.dumps([asdict(each) for each in self.rows], indent=1) + "\n")
