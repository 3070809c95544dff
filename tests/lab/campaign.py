"""A campaign: tests that take hours, in several labs at once, because a lab mostly waits."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[2]


def run_labs(marker: str, folder: Path, labs: Mapping[str, tuple[str, ...]], tables: tuple[str, ...]) -> list[Path]:
    """Run the tests of each lab, print the logs of those that failed, and return these logs.

    Args:
        marker: of the tests, and the campaign's name.
        folder: where the tests are.
        labs: the files of the tests, by the lab (a folder below `lab/`) that runs them one after another.
        tables: the files in a lab's folder that its tests write. Those of an earlier campaign are removed: a lab that
            does not come up writes none.

    """
    # A shell starts `just faults &` with SIGINT ignored, and the labs would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    running = {}
    for lab, files in labs.items():
        place = PROJECT / "lab" / lab
        place.mkdir(mode=0o700, exist_ok=True)
        for table in tables:
            (place / table).unlink(missing_ok=True)
        log = place / "campaign.log"
        # pytest cleans up after SIGINT, so that is also what it gets if this process is killed.
        command = ["setpriv", "--pdeathsig", "INT", "--", sys.executable, "-m", "pytest", "-m", marker]
        with log.open("wb") as output:
            running[log] = subprocess.Popen(
                [*command, "-q", "--timeout=3600", *(str(folder / file) for file in files)],
                cwd=PROJECT,
                # Four machines with two cores each would be too much for a host with two.
                env=os.environ | {"HOLDFAST_LAB": lab, "HOLDFAST_LAB_CORES": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        print(f"{marker}: {', '.join(files)}: see {log.relative_to(PROJECT)}", flush=True)
    failed = [log for log, process in running.items() if process.wait()]
    for log in failed:
        print(log.read_text(errors="replace"))
    return failed
