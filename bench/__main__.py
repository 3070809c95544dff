"""`./just bench [uploads|install|slow …]`: measures, prints a table with ratios, and writes it as JSON."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.beside import script_of
from bench.install import install
from bench.results import Measured, table, this_machine, write
from bench.slow import slow
from bench.uploads import uploads

PARTS: Final[dict[str, Callable[[argparse.Namespace], list[Measured]]]] = {
    "uploads": lambda _: uploads(),
    "install": lambda told: install(told.nixos_anywhere),
    "slow": lambda _: slow(),
}
WRITTEN: Final = Path(__file__).parents[1] / "lab" / "run" / "bench.json"


def main() -> int:
    """Measure what the command line names; without a name all of it."""
    parser = argparse.ArgumentParser(prog="just bench", description="Measures; nothing fails because it is slow.")
    parser.add_argument("part", nargs="*", help=f"what to measure, of {', '.join(PARTS)}; by default all of it")
    beside = "a checkout of nixos-anywhere, which installs in turn with Holdfast"
    parser.add_argument("--nixos-anywhere", type=Path, help=beside)
    parser.add_argument("--json", type=Path, default=WRITTEN, help="where to write the numbers")
    told = parser.parse_args()
    if unknown := [part for part in told.part if part not in PARTS]:
        parser.error(f"there is no {unknown[0]} to measure")
    if told.nixos_anywhere:
        try:
            script_of(told.nixos_anywhere)
        except FileNotFoundError as error:
            parser.error(str(error))
    load = os.getloadavg()[0]
    found = [each for part in told.part or PARTS for each in PARTS[part](told)]
    machine = this_machine(load)
    write(told.json, machine, found)
    print(f"\n{table(machine, found)}\n\nThe numbers are in {told.json}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
