"""Two runs for one host at once: the lock on the target, and Prefect's own limit."""

import subprocess
import sys

import pytest

from lab.operator import PROJECT
from tests.lab.faults.journey import Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

_RUN = "from flows.install import install; install('cottage')"


def test_second_run_is_kept_out(journey: Journey) -> None:
    journey.start()
    for phase in ("kexec", "install"):
        journey.reach(phase)
        journey.until_on_machine("the first run's lock", f"grep -q {journey.run_id} /run/holdfast/lock.json")
        with journey.fault("a second run, past Prefect's limit", phase) as seen:
            second = subprocess.run(
                [sys.executable, "-c", _RUN],
                cwd=PROJECT,
                env=journey.operator.env,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert second.returncode != 0
            assert journey.run_id in second.stdout + second.stderr, second.stdout + second.stderr
            seen.where = journey.where()
            seen.recovery = f"second refused, first {journey.go_on(phase)}"
    journey.finish()
