"""A whole install in the lab, from the command to the proof, beside nixos-anywhere and beside a plain probe."""

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx

from bench import beside
from bench.probe import Probe
from bench.results import Measured
from lab.flow_runs import report_of
from lab.operator import PROJECT, Operator
from lab.runtime import Lab
from lab.toolchain import announce

ROUNDS: Final = 2
MB: Final = 1_000_000
SAME_WORK: Final = "install, no standby and no trial"
WHOLE: Final = "install, with standby and trial"
LEFT: Final = {"kexec": "kexec_at", "trial": "kexec_at", "reboot": "rebooted_at"}
"""Which phase ends a system, and what its result calls the time of it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One install.

    Attributes:
        whole_s: from the command to its end, which is the proof.
        first_phase_s: from the command to the first phase.
        report: what the run wrote.
        away: for each time that the machine was away, its seconds as Holdfast saw them and as the probe did.

    """

    whole_s: float
    first_phase_s: float
    report: dict[str, Any]
    away: dict[str, tuple[float, float]]


def install(checkout: Path | None) -> list[Measured]:
    """Install several times in a lab of its own, in turn with nixos-anywhere; return how long each part took.

    Everything is built before, so no build is measured.

    Args:
        checkout: of nixos-anywhere; None measures Holdfast alone.

    Raises:
        FileNotFoundError: the checkout is none.
        RuntimeError: an install failed.

    """
    script = beside.script_of(checkout) if checkout else None
    lab, theirs = Lab(), []
    ours: dict[str, list[Seen]] = {SAME_WORK: [], WHOLE: []}
    try:
        lab.up()
        system = beside.build(lab)
        with Operator(lab) as operator:
            for number in range(ROUNDS):
                announce(f"round {number + 1} of {ROUNDS}")
                if script:
                    theirs.append(beside.install(lab, script, system))
                    lab.start_over()
                for what, seen in ours.items():
                    with _standby(lab, wanted=what == WHOLE):
                        seen.append(installed(operator))
                    lab.start_over()
        return rows(ours, theirs)
    finally:
        lab.down()


@contextmanager
def _standby(lab: Lab, *, wanted: bool) -> Iterator[None]:
    """Let the inventory say whether the host has a standby, and with it a trial, while the body runs."""
    inventory = lab.run_dir / "hosts.toml"
    found = inventory.read_text()
    inventory.write_text(f"{found}standby = {str(wanted).lower()}\n")
    try:
        yield
    finally:
        inventory.write_text(found)


def installed(operator: Operator) -> Seen:
    """Run `just install cottage`, show what it says, and return what was seen.

    Raises:
        RuntimeError: it failed.

    """
    command = [sys.executable, "-m", "deployments.start", "install", "cottage"]
    run_id, lab = "", operator.lab
    with Probe(lab.world.tailnet.sockets / "tailscaled.sock", lab.address) as probe:
        began = time.time()
        with subprocess.Popen(command, env=operator.env, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout
            for line in running.stdout:
                print(line, end="", flush=True)
                if found := re.match(r"install: the run is ([0-9a-f-]+),", line):
                    run_id = found[1]
        whole_s = time.time() - began
    if running.returncode or not run_id:
        raise RuntimeError(f"the install failed. Its log is in {lab.run_dir}.")
    told = {"flow_runs": {"id": {"any_": [run_id]}}}
    tasks = httpx.post(f"{operator.ui}/api/task_runs/filter", json=told, timeout=60).raise_for_status().json()
    report = report_of(operator, run_id)
    journal = (operator.state / "runs" / run_id / "journal.jsonl").read_text().splitlines()
    away = returns(report["away_s"], left(map(json.loads, journal)), probe.returns)
    return Seen(whole_s, _first_phase(tasks) - began, report, away)


def left(journal: Iterator[dict[str, Any]]) -> dict[str, float]:
    """Return when the machine left a system, by phase, in seconds since 1970. `journal`: its lines."""
    done = {line["phase"]: line["result"] for line in journal if line["phase"] in LEFT and line["outcome"] == "done"}
    return {phase: float(result[LEFT[phase]]) for phase, result in done.items() if result[LEFT[phase]]}


def returns(
    away_s: dict[str, float | None], left_at: dict[str, float], probed: list[float]
) -> dict[str, tuple[float, float]]:
    """Return, for each time that the machine was away, its seconds as Holdfast saw them and as the probe did.

    Args:
        away_s: what Holdfast saw, from the moment when the machine left.
        left_at: that moment, in seconds since 1970.
        probed: when the probe met the machine again, likewise.

    """
    found = {}
    for when, seconds in away_s.items():
        if seconds is None or when not in left_at:
            continue
        # The probe and Holdfast meet the same boot: the probe's return that is nearest to Holdfast's.
        came = min((at - left_at[when] for at in probed), key=lambda s: abs(s - seconds), default=None)
        if came is not None and came > 0:
            found[when] = (seconds, came)
    return found


def rows(ours: dict[str, list[Seen]], theirs: list[tuple[float, float]]) -> list[Measured]:
    """Return the table: the medians of all rounds, the parts of the install with standby and trial."""
    done_s, answers_s = (statistics.median(column) for column in zip(*theirs, strict=True)) if theirs else (0.0, 0.0)
    found = []
    for what, seen in ours.items():
        name = "nixos-anywhere, until the new system answers" if theirs else ""
        found.append(Measured(what, statistics.median(one.whole_s for one in seen), name, answers_s))
    if theirs:
        found.append(Measured("nixos-anywhere, until it says Done", done_s))
    whole = ours[WHOLE]
    first = statistics.median(one.first_phase_s for one in [each for seen in ours.values() for each in seen])
    found.append(Measured("from the command to the first phase", first))
    phases = [phase["name"] for phase in whole[0].report["phases"]]
    for name in phases:
        seconds = [phase["seconds"] for one in whole for phase in one.report["phases"] if phase["name"] == name]
        found.append(Measured(f"phase {name}", statistics.median(seconds)))
    for when in LEFT:
        if both := [one.away[when] for one in whole if when in one.away]:
            saw, probed = (statistics.median(column) for column in zip(*both, strict=True))
            found.append(Measured(f"away at {when}", saw, "a TCP probe every 0.2 s", probed))
    for counted in ("connections", "commands"):
        amount = statistics.median(one.report[counted] for one in whole)
        found.append(Measured(f"SSH {counted}", amount, unit=""))
    peak = statistics.median(one.report["peak_rss_bytes"] for one in whole)
    found.append(Measured("most memory of the flow's process", peak / MB, unit="MB"))
    return found


def _first_phase(tasks: list[dict[str, Any]]) -> float:
    starts = [datetime.fromisoformat(task["start_time"].replace("Z", "+00:00")) for task in tasks if task["start_time"]]
    return min(starts).timestamp()
