"""What was measured: as a table for people, and as JSON."""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lab.acceleration import accelerator
from lab.architecture import X86_64

MODEL: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement.

    Attributes:
        what: what was measured.
        value: how long it took, or how much it was; of several runs the median.
        beside: what it is compared with; empty for nothing.
        beside_value: how long that took, or how much it was; 0 for nothing.
        unit: of both; empty for a count.

    """

    what: str
    value: float
    beside: str = ""
    beside_value: float = 0.0
    unit: str = "s"

    @property
    def ratio(self) -> float | None:
        """How many times as much as what it is compared with."""
        return round(self.value / self.beside_value, 2) if self.beside_value else None

    def shown(self, value: float) -> str:
        """Return one of its two values as text."""
        return f"{value:.2f} {self.unit}" if self.unit else f"{value:.0f}"


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that measured, and how busy it was.

    Attributes:
        date: when, as YYYY-MM-DD.
        cpus: how many processors it has.
        model: their name.
        lab: QEMU's accelerator for the machines of the lab.
        load_before: processes that wanted to run in the minute before.
        load_after: and in the last minute.

    """

    date: str
    cpus: int
    model: str
    lab: str
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
        lab=accelerator(X86_64),
        load_before=round(load_before, 1),
        load_after=round(os.getloadavg()[0], 1),
    )


def table(machine: Machine, found: list[Measured]) -> str:
    """Return a table in Markdown, with the machine below."""
    lines = ["| what | measured | beside | measured | ratio |", "|---|---|---|---|---|"]
    for each in found:
        beside = each.shown(each.beside_value) if each.beside_value else ""
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        lines.append(f"| {each.what} | {each.shown(each.value)} | {each.beside} | {beside} | {ratio} |")
    lines += ["", f"{machine.date}, {machine.cpus} processors ({machine.model}), the lab's machines by {machine.lab},"]
    lines += [f"load {machine.load_before} before and {machine.load_after} after."]
    return "\n".join(lines)


def write(path: Path, machine: Machine, found: list[Measured]) -> None:
    """Write it as JSON."""
    rows = [asdict(each) | {"ratio": each.ratio} for each in found]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": asdict(machine), "measured": rows}, indent=2) + "\n")
