"""A whole install in the lab, from the command to the proof, part by part."""

import re
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

import httpx

from bench.results import Measured
from lab.flow_runs import report_of
from lab.operator import PROJECT, Operator
from lab.runtime import Lab


def install() -> list[Measured]:
    """Run `just install cottage` in a lab of its own, and return how long each part took.

    Raises:
        RuntimeError: the install failed.

    """
    lab = Lab()
    try:
        lab.up()
        with Operator(lab) as operator:
            began = time.time()
            run_id = _installed(operator)
            whole_s = time.time() - began
            told = {"flow_runs": {"id": {"any_": [run_id]}}}
            tasks = httpx.post(f"{operator.ui}/api/task_runs/filter", json=told, timeout=60).raise_for_status().json()
            return parts(report_of(operator, run_id), began, _first_phase(tasks), whole_s)
    finally:
        lab.down()


def _installed(operator: Operator) -> str:
    """Run `just install cottage`, show what it says, and return the run's id.

    Raises:
        RuntimeError: it failed.

    """
    command = [sys.executable, "-m", "deployments.start", "install", "cottage"]
    run_id = ""
    with subprocess.Popen(command, env=operator.env, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        for line in running.stdout:
            print(line, end="", flush=True)
            if found := re.match(r"install: the run is ([0-9a-f-]+),", line):
                run_id = found[1]
    if running.returncode or not run_id:
        raise RuntimeError(f"the install failed. Its log is in {operator.lab.run_dir}.")
    return run_id


def parts(report: dict[str, Any], began: float, first_phase: float, whole_s: float) -> list[Measured]:
    """Return the parts of an install.

    Args:
        report: of the run.
        began: when the command was given, in seconds since 1970.
        first_phase: when the first phase began, likewise.
        whole_s: from the command until it ended.

    """
    found = [Measured("from the command to the first phase", first_phase - began)]
    found += [Measured(f"phase {phase['name']}", phase["seconds"]) for phase in report["phases"]]
    found += [Measured(f"away at {when}", seconds) for when, seconds in report["away_s"].items() if seconds is not None]
    return [*found, Measured("from the command to its end", whole_s)]


def _first_phase(tasks: list[dict[str, Any]]) -> float:
    starts = [datetime.fromisoformat(task["start_time"].replace("Z", "+00:00")) for task in tasks if task["start_time"]]
    return min(starts).timestamp()
