"""`./just faults`: all faults, in four labs at once; prints one table at the end."""

import sys
import time
from pathlib import Path
from typing import Final

from tests.lab import table
from tests.lab.campaign import PROJECT, run_labs
from tests.lab.faults.table import COLUMNS, Row, by_fault, show

TABLE: Final = "faults.json"
# The long cuts only wait; the other labs share two cores.
LABS: Final = {
    "run": ("test_each_phase.py::test_flow_killed_and_link_cut_in_its_retry", "test_processes.py"),
    "run-2": ("test_installer.py", "test_new_system.py", "test_small_windows.py"),
    "run-3": ("test_each_phase.py::test_long_cut", "test_cancel.py", "test_reinstall.py"),
    "run-4": ("test_power_and_identity.py", "test_watchdog.py"),
}


def main() -> int:
    """Run the labs, print what they found, and return 0 if every fault was recovered from."""
    began = time.monotonic()
    print("faults: four labs at once, about an hour; progress is in their logs", flush=True)
    failed = run_labs("faults", Path(__file__).parent, LABS, (TABLE,))
    rows = by_fault([row for lab in LABS for row in table.read(PROJECT / "lab" / lab / TABLE, Row)])
    show(rows)
    (PROJECT / "lab" / "run" / "faults.md").write_text(table.to_markdown(COLUMNS, rows))
    print(f"faults: {time.monotonic() - began:.0f} s; the table for docs/faults.md is in lab/run/faults.md")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
