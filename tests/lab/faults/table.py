"""The table of the campaign: a row for each fault in each phase."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lab.flow_runs import PHASES
from tests.lab import table

COLUMNS: Final = {
    "fault": "fault",
    "phase": "phase",
    "where": "machine was in",
    "recovery": "went on by",
    "outcome": "outcome",
    "seconds": "seconds",
}


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
    title = f"{len(rows)} faults, {sum(row.outcome == 'recovered' for row in rows)} recovered"
    table.show(title, COLUMNS, rows)


def by_fault(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of each fault together, in the order of the phases."""
    first = [row.fault for row in rows]
    return sorted(rows, key=lambda row: (first.index(row.fault), PHASES.index(row.phase)))
