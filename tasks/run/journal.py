"""The journal of a run: one line of JSON for each attempt at a phase, so that a report can be made at any time.

Prefect has the same facts, but later, and only while its server answers.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, JsonValue, ValidationError

from holdfast.base import clock
from holdfast.base.frozen import Frozen
from holdfast.ssh.counting import counted

Outcome = Literal["done", "failed", "cancelled", "stopped"]


class Attempt(Frozen):
    """An attempt at a phase, or at the whole run (then `phase` is `run`).

    Attributes:
        phase: the phase's name.
        outcome: `done`, `failed`, `cancelled` if somebody stopped it on its way, or `stopped` for a run that ended
            after the phase that it was asked for.
        started_at: seconds since 1970.
        seconds: how long the attempt took.
        start: in which start of the run it was: 1 for the first, and one more for each Retry.
        result: the phase's result as JSON; never holds a secret.
        error: one line, if it is not done.
        connections: how many SSH connections were let in meanwhile (holdfast/ssh/counting.py).
        commands: how many commands were sent to targets meanwhile.
        back: whether it found the machine in the installer again, after its first boot: its trial has to come again.

    """

    model_config = ConfigDict(extra="ignore")

    phase: str
    outcome: Outcome
    started_at: float
    seconds: float
    start: int
    result: JsonValue = None
    error: str = ""
    back: bool = False
    connections: int = 0
    commands: int = 0


class Journal:
    """The files of one run: `journal.jsonl`, `output.log` and `report.json` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_run(cls, runs_dir: Path, run_id: str) -> Self:
        """Open the journal of a run, and make its folder (0700) if this is its first line."""
        folder = runs_dir / run_id
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(folder)

    @property
    def output(self) -> Path:
        """The file with every line that commands on the target and Nix wrote."""
        return self.folder / "output.log"

    @property
    def report(self) -> Path:
        """The report's file."""
        return self.folder / "report.json"

    def add(self, entry: Attempt) -> None:
        """Append an entry."""
        line = f"{entry.model_dump_json()}\n".encode()
        with (self.folder / "journal.jsonl").open("ab+") as journal:
            if journal.tell():
                journal.seek(-1, os.SEEK_END)
                # A line that a power cut left unfinished must not swallow this one.
                line = line if journal.read() == b"\n" else b"\n" + line
            journal.write(line)

    def entries(self) -> Iterator[Attempt]:
        """Read the entries, oldest first. A line that a power cut left unfinished is skipped."""
        path = self.folder / "journal.jsonl"
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                try:
                    yield Attempt.model_validate_json(line)
                except ValidationError:
                    continue


class Stopwatch:
    """Measures an attempt and makes its entry."""

    def __init__(self, phase: str, start: int) -> None:
        self.phase, self.start = phase, start
        self._started_at = clock.now()
        self._started = clock.monotonic()
        self._counted = counted()

    def entry(self, outcome: Outcome, *, result: JsonValue = None, error: str = "", back: bool = False) -> Attempt:
        """Return the entry for an attempt that ends now."""
        counts = counted().since(self._counted)
        return Attempt(
            phase=self.phase,
            outcome=outcome,
            started_at=self._started_at,
            seconds=round(clock.monotonic() - self._started, 3),
            start=self.start,
            result=result,
            error=error,
            back=back,
            connections=counts.connections,
            commands=counts.commands,
        )
