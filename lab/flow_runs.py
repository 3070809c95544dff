"""Flow runs through Prefect's API: does what the buttons of its UI do, and reads what a run wrote."""

import json
import time
from typing import Any, Final
from uuid import uuid4

import httpx

from flows.install import install
from lab.operator import Operator
from tasks.run.phases import phases_of

_INSTALL: Final = tuple(phase for phase in phases_of(install) if phase.always)

PHASES: Final = tuple(phase.name for phase in _INSTALL)
"""The phases of an install in the lab, in their order; its inventory demands no rehearsal."""

TASKS: Final = tuple(phase.name for phase in _INSTALL if phase.is_task)
"""Those of them that are Prefect tasks."""

ENDED: Final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


DEAF_AFTER_S: Final = 20.0
"""Prefect's runner no longer hears of a Cancel when its server was away for so long (some 13 s, Prefect 3.9.1)."""


def phases_before(phase: str) -> tuple[str, ...]:
    """Return the phases of an install that come before this one."""
    return PHASES[: PHASES.index(phase)]


def start(operator: Operator, deployment: str = "install/cottage", **parameters: object) -> str:
    """Start a deployment as the UI does, and return the run's id."""
    deployed = operator.api(f"/deployments/name/{deployment}")
    run = operator.api(
        f"/deployments/{deployed['id']}/create_flow_run",
        {
            "parameters": {"host": "cottage", **parameters},
            "state": {"type": "SCHEDULED"},
            "idempotency_key": str(uuid4()),
        },
    )
    return str(run["id"])


def ended(operator: Operator, run_id: str, deadline_s: float = 900) -> dict[str, Any]:
    """Wait until a run has ended, and return it as Prefect's API shows it.

    Raises:
        AssertionError: it did not end within the deadline.

    """
    ends = time.monotonic() + deadline_s
    while True:
        run: dict[str, Any] = operator.api(f"/flow_runs/{run_id}")
        if run["state"]["type"] in ENDED:
            return run
        if time.monotonic() > ends:
            raise AssertionError(f"run {run_id} did not end in {deadline_s:.0f} s; last seen: {run['state']}")
        time.sleep(1)


def answer(operator: Operator, run_id: str, host: str, deadline_s: float = 300) -> None:
    """Wait until a run asks for an approval, type this host's name and press Resume.

    Raises:
        AssertionError: it ended, or did not ask within the deadline.

    """
    ends = time.monotonic() + deadline_s
    while (state := operator.api(f"/flow_runs/{run_id}")["state"])["type"] != "PAUSED":
        if state["type"] in ENDED or time.monotonic() > ends:
            raise AssertionError(f"run {run_id} asked nobody: {state}")
        time.sleep(0.5)
    operator.api(f"/flow_runs/{run_id}/resume", {"run_input": {"host": host}})


def retry(operator: Operator, run_id: str) -> None:
    """Press the UI's Retry button."""
    answer = operator.api(
        f"/flow_runs/{run_id}/set_state",
        {
            "state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"},
            "force": False,
        },
    )
    if answer["status"] != "ACCEPT":
        raise AssertionError(f"Prefect refused the retry: {answer}")


def cancel(operator: Operator, run_id: str) -> None:
    """Press the UI's Cancel button."""
    told = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
    answer = operator.api(f"/flow_runs/{run_id}/set_state", dict(told))
    if answer["status"] != "ACCEPT":
        raise AssertionError(f"Prefect refused to cancel: {answer}")


def forget(operator: Operator, flow: str) -> None:
    """Delete what the server knows of a flow's runs, so that a test does not build on another one's."""
    wanted = {"flows": {"name": {"any_": [flow]}}}
    runs = httpx.post(f"{operator.ui}/api/flow_runs/filter", json=wanted, timeout=30).raise_for_status().json()
    for run in runs:
        httpx.delete(f"{operator.ui}/api/flow_runs/{run['id']}", timeout=30).raise_for_status()


def report_of(operator: Operator, run_id: str) -> dict[str, Any]:
    """Return the report that a run wrote."""
    return dict(json.loads((operator.state / "runs" / run_id / "report.json").read_text()))


def phases_done(operator: Operator, run_id: str) -> set[str]:
    """Read a run's journal; return the names of the phases that are done and will not run again.

    Until the disks are formatted, a Retry runs kexec and reconnect again (`settled_by` in tasks/run/phase.py).
    """
    journal = operator.state / "runs" / run_id / "journal.jsonl"
    lines = journal.read_text().splitlines() if journal.is_file() else []
    done = [entry for entry in map(json.loads, lines) if entry["outcome"] == "done"]
    start = int(operator.api(f"/flow_runs/{run_id}")["run_count"])
    counted = min([start, *(entry["start"] for entry in done if entry["phase"] == "partition")])
    return {
        entry["phase"] for entry in done if entry["phase"] not in ("kexec", "reconnect") or entry["start"] >= counted
    }
