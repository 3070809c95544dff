"""`./just faults`: all faults, in four labs at once, because a lab mostly waits; prints one table at the end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.lab.faults.table import by_fault, read, show, to_markdown

PROJECT: Final = Path(__file__).parents[3]
HERE: Final = Path(__file__).parent

PYTEST: Final = ("-m", "pytest", "-m", "faults", "-q", "--timeout=3600")
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
    # A shell starts `just faults &` with SIGINT ignored, and the labs would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    labs = {}
    for lab, files in LABS.items():
        folder = PROJECT / "lab" / lab
        folder.mkdir(mode=0o700, exist_ok=True)
        log = folder / "campaign.log"
        # pytest cleans up after SIGINT, so that is also what it gets if this process is killed.
        command = ["setpriv", "--pdeathsig", "INT", "--", sys.executable, *PYTEST]
        with log.open("wb") as output:
            labs[log] = subprocess.Popen(
                [*command, *(str(HERE / file) for file in files)],
                cwd=PROJECT,
                # Four machines with two cores each would be too much for a host with two.
                env=os.environ | {"HOLDFAST_LAB": lab, "HOLDFAST_LAB_CORES": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        print(f"faults: {', '.join(files)}: see {log.relative_to(PROJECT)}", flush=True)
    failed = [log for log, running in labs.items() if running.wait()]
    for log in failed:
        print(log.read_text(errors="replace"))
    rows = by_fault([row for lab in LABS for row in read(PROJECT / "lab" / lab / "faults.json")])
    show(rows)
    (PROJECT / "lab" / "run" / "faults.md").write_text(to_markdown(rows))
    print(f"faults: {time.monotonic() - began:.0f} s; the table for docs/faults.md is in lab/run/faults.md")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
