"""What was measured: as a table for people, and as JSON."""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

MODEL: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement.

    Attributes:
        what: what was done.
        seconds: how long it took; of several runs the median.
        beside: what it is compared with; empty for nothing.
        beside_s: how long that took; 0 for nothing.

    """

    what: str
    seconds: float
    beside: str = ""
    beside_s: float = 0.0

    @property
    def ratio(self) -> float | None:
        """How many times as long as what it is compared with."""
        return round(self.seconds / self.beside_s, 2) if self.beside_s else None


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that measured, and how busy it was.

    Attributes:
        date: when, as YYYY-MM-DD.
        cpus: how many processors it has.
        model: their name.
        load_before: processes that wanted to run in the minute before.
        load_after: and in the last minute.

    """

    date: str
    cpus: int
    model: str
    load_before: float
    load_after: float


def this_machine(load_before: float) -> Machine:
    """Return what this machine is."""
    lines = MODEL.read_text().splitlines() if MODEL.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return Machine(
        date=time.strftime("%Y-%m-%d"),
        cpus=os.cpu_count() or 0,
        model=model or platform.machine(),
        load_before=round(load_before, 1),
        load_after=round(os.getloadavg()[0], 1),
    )


def table(machine: Machine, found: list[Measured]) -> str:
    """Return a table in Markdown, with the machine below."""
    lines = ["| what | seconds | beside | seconds | ratio |", "|---|---|---|---|---|"]
    for each in found:
        beside_s = f"{each.beside_s:.2f}" if each.beside_s else ""
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        lines.append(f"| {each.what} | {each.seconds:.2f} | {each.beside} | {beside_s} | {ratio} |")
    lines += ["", f"{machine.date}, {machine.cpus} processors ({machine.model}), the lab's machine emulated,"]
    lines += [f"load {machine.load_before} before and {machine.load_after} after."]
    return "\n".join(lines)


def write(path: Path, machine: Machine, found: list[Measured]) -> None:
    """Write it as JSON."""
    rows = [asdict(each) | {"ratio": each.ratio} for each in found]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": asdict(machine), "measured": rows}, indent=2) + "\n")
