"""Runs that are asked to stop after a phase, on the fake machine: how they end, and a later run that continues."""

from typing import Any, get_args

import pytest
from prefect.client.schemas.objects import State

from flows.install import install
from holdfast.base.errors import Unreachable
from holdfast.base.settings import settings
from holdfast.plan.until import DRY, LEAVES, Until
from tasks.run.flow import STOPPED_AS_ASKED
from tasks.run.journal import Journal
from tasks.run.phases import phases_of
from tasks.run.report import Report
from tests.unit.server import Server
from tests.unit.target import RUN, FakeMachine
from tests.unit.test_cancelled_runs import INSTALL, run_flow
from tests.unit.test_cancelled_runs import LEAVES as LEAVES_IT
from tests.unit.test_reinstall import DISKS
from tests.unit.test_whole_runs import inventory as inventory

pytestmark = pytest.mark.usefixtures("desk", "inventory", "server")
PHASES: tuple[Until, ...] = get_args(Until)
FRESH = "0d2b3c4d-3333-4bbb-8ccc-444455556666"
RUNS: dict[str, str] = {
    **dict.fromkeys(DRY, "origin"),
    **dict.fromkeys(("reconnect", "partition", "install", "restore"), "installer"),
    "trial": "trial",
}
# What the run says of the machine.
SAYS = {
    "reconnect": "Its dead-man is armed: if nobody comes, it goes back to its origin at",
    "partition": "It stays in the installer, also after a power cut: its disk boots the standby",
    "install": "also after a power cut: its disk boots the standby",
    "restore": "also after a power cut: its disk boots the standby",
    "trial": "it stays in this system until it is rebooted",
}


def report(run_id: str) -> Report:
    return Report.model_validate_json(Journal.of_run(settings().runs_dir, run_id).report.read_text())


def run(monkeypatch: pytest.MonkeyPatch, run_id: str, until: Until | None = None) -> "State[Any] | None":
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", run_id)
    return run_flow("install", monkeypatch, until=until)


def test_phases_to_stop_after_are_phases_and_say_how_they_leave_it() -> None:
    names = [phase.name for phase in phases_of(install)]
    assert [name for name in names if name in PHASES] == list(PHASES)
    assert LEAVES.keys() == set(PHASES)


@pytest.mark.parametrize("until", PHASES)
def test_stops_and_a_fresh_run_continues(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    machine.shows("trial", **DISKS)
    ended = run(monkeypatch, RUN, until=until)
    assert ended is not None
    assert (ended.is_completed(), ended.name) == (True, STOPPED_AS_ASKED)
    said = str(ended.message)
    assert said.startswith(f"stopped after {until}, as asked. cottage runs ")
    assert SAYS.get(until, "") in said
    assert said.endswith("To continue, start a run without `until`: it goes by what it finds there.")
    assert machine.runs == RUNS[until]
    if until in DRY or until == "reconnect":
        assert "disks formatted" not in machine.story
    if until in DRY:
        assert not set(machine.story) & {*LEAVES_IT, "locked"}
    written = report(RUN)
    assert (written.outcome, written.said, written.error) == ("stopped", said, "")
    assert [phase.name for phase in written.phases] == list(INSTALL[: INSTALL.index(until) + 1])
    assert "stopped after" in written.to_markdown()
    assert "start a run without `until`" in written.to_markdown().partition("**Next:**")[2]
    assert f"**The run stops after {until}, as asked: " in server.artifacts["plan-cottage"]

    server.over[RUN] = True
    assert run(monkeypatch, FRESH) is None
    assert (machine.runs, machine.disk, machine.standby) == ("final", "final", False)
    assert machine.story.count("disks formatted") == 1
    assert machine.story.count("installer started by kexec") == 1
    assert report(FRESH).outcome == "done"


def test_stopped_in_the_installer_the_dead_man_takes_it_back(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, RUN, until="reconnect")
    machine.clock.sleep(machine.dead_man_s + 120)
    assert (machine.runs, machine.story[-2:]) == ("origin", ["dead-man fires", "origin boots"])
    server.over[RUN] = True
    assert run(monkeypatch, FRESH) is None
    assert (machine.runs, machine.disk) == ("final", "final")


def test_a_dry_run_leaves_a_machine_in_use_as_it_is(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`finish` would remove a standby that an earlier run has left there."""
    machine.toplevel = f"/nix/store/{'b' * 32}-nixos-system"
    machine.is_in("final")
    machine.standby = True
    ended = run(monkeypatch, RUN, until="build")
    assert ended is not None
    assert ended.name == "Installed already"
    assert (machine.story, machine.standby) == ([], True)
    assert [(phase.name, phase.outcome) for phase in report(RUN).phases][1:] == [("finish", "skipped")]


@pytest.mark.usefixtures("machine")
def test_a_machine_that_cannot_be_looked_at_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.run.stopping.whereabouts", _unreachable)
    ended = run(monkeypatch, RUN, until="partition")
    assert ended is not None
    assert "cottage could not be looked at" in str(ended.message)
    assert "its disks are formatted, and it stays in the installer until it is rebooted" in str(ended.message)


def _unreachable(_machine: object) -> str:
    raise Unreachable("no answer.")
