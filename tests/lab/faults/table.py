"""What the campaign found: a row for each fault in each phase."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One fault in one phase.

    Attributes:
        fault: what was done.
        phase: the phase that ran then.
        where: the system that the machine was found in after it.
        recovery: what it took to go on: `by itself`, `Retry`, `fresh run`, …
        outcome: `recovered`, or what went wrong.
        seconds: from the fault until the phase was over.

    """

    fault: str
    phase: str
    where: str
    recovery: str
    outcome: str
    seconds: float


class Findings:
    """The rows, kept in a file too, so that a campaign that breaks off still leaves what it found."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Add a row."""
        self.rows.append(row)
        self._path.write_text(json.dumps([asdict(each) for each in self.rows], indent=1) + "\n")

    def show(self) -> None:
        """Print the table."""
        table = Table(title=f"{len(self.rows)} faults, {sum(r.outcome == 'recovered' for r in self.rows)} recovered")
        for column in ("fault", "phase", "machine", "went on by", "outcome", "seconds"):
            table.add_column(column)
        for row in self.rows:
            table.add_row(row.fault, row.phase, row.where, row.recovery, row.outcome, f"{row.seconds:.0f}")
        Console(width=160).print(table)
