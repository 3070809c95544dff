"""Whole runs on the fake machine that are cancelled on their way, without any help of Prefect's runner."""

import importlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
from prefect import Task
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal

from holdfast.base.settings import settings
from tasks.run.journal import Journal
from tasks.run.report import Report
from tests.unit.firmware import GUARDED
from tests.unit.server import Server
from tests.unit.target import RUN, FakeMachine
from tests.unit.test_whole_runs import inventory as inventory

pytestmark = pytest.mark.usefixtures("desk", "inventory")

INSTALL = (
    *("preflight", "build", "preserve", "approve", "kexec", "reconnect"),
    *("partition", "install", "restore", "trial", "reboot", "verify"),
)
REHEARSAL = ["preflight", "build", "at_origin", "preserve", "prove_origin", "kexec", "reconnect", "go_back"]
# What of the story changes the machine so that it does not run on as before.
LEAVES = ("installer started by kexec", "disks formatted", "told to kexec", "told to reboot")


def run_flow(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    before: Callable[[str], object] = lambda _phase: None,
    **parameters: object,
) -> State[Any] | None:
    """Run a flow with its journal, its report and its brake, but without Prefect's engine."""
    module = importlib.import_module(f"flows.{name}")
    for called, phase in list(vars(module).items()):
        if isinstance(phase, Task) or called == "approve":
            work = phase.fn if isinstance(phase, Task) else phase

            def begin(*given: Any, work: Any = work, phase: str = called.removesuffix("_system"), **told: Any) -> Any:
                before(phase)
                return work(*given, **told)

            monkeypatch.setattr(module, called, begin)
    parameters |= {"origin": True} if name == "rehearse" else {}
    ended: State[Any] | None = getattr(module, name).fn("cottage", **parameters)
    return ended


def report() -> Report:
    journal = Journal.of_run(settings().runs_dir, RUN)
    return Report.model_validate_json(journal.report.read_text())


def cancelled(server: Server, machine: FakeMachine) -> Callable[[], None]:
    def cancel() -> None:
        server.cancelled = True
        machine.tell("cancelled")

    return cancel


def after_cancel(machine: FakeMachine) -> list[str]:
    return machine.story[machine.story.index("cancelled") + 1 :]


@pytest.mark.parametrize(
    ("flow", "phase"), [("install", name) for name in INSTALL] + [("rehearse", name) for name in REHEARSAL]
)
def test_cancelled_before_a_phase(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch, flow: str, phase: str
) -> None:
    cancel = cancelled(server, machine)
    ended = run_flow(flow, monkeypatch, before=lambda name: cancel() if name == phase else None)
    assert ended is not None
    assert ended.type == "CANCELLED"
    assert after_cancel(machine) == []
    assert str(ended.message).startswith(f"cancelled in the phase {phase}. cottage ")
    assert "Retry this run, or start a new one" in str(ended.message)
    written = report()
    assert (written.outcome, written.phases[-1].name, written.phases[-1].outcome) == ("cancelled", phase, "cancelled")
    assert written.error == ended.message


@pytest.mark.parametrize(
    ("command", "phase", "says"),
    [
        ("upload-look.sh", "kexec", "cottage runs its own system, Debian"),
        ("standby-make-room.sh", "partition", "Its dead-man is armed"),
        ("nixos-install", "restore", "also after a power cut: its disk boots the standby"),
        ("switch-to-configuration", "reboot", "cottage runs the installed system"),
    ],
)
def test_cancelled_while_a_command_runs(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch, command: str, phase: str, says: str
) -> None:
    machine.before(command, cancelled(server, machine))
    ended = run_flow("install", monkeypatch)
    assert ended is not None
    assert str(ended.message).startswith(f"cancelled in the phase {phase}.")
    assert says in str(ended.message)
    assert not set(after_cancel(machine)) & set(LEAVES)


def test_cancelled_while_the_origin_reboots(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.instead["origin"] = ""
    machine.after("reboot.sh", cancelled(server, machine))
    ended = run_flow("rehearse", monkeypatch)
    assert ended is not None
    said = str(ended.message)
    assert said.startswith("cancelled in the phase prove_origin. cottage could not be looked at: ")
    assert "Last known: it may have been told to reboot, by its own boot loader; this run has not started" in said
    assert not set(after_cancel(machine)) & set(LEAVES)


@pytest.mark.parametrize(
    ("slow", "phase", "says", "then"),
    [
        ("nixos-install", "install", "(holdfast install ", "nixos-install, no boot loader"),
        ("switch-to-configuration", "trial", "(holdfast boot loader ", "boot loader installed"),
    ],
)
def test_work_on_the_machine_continues_by_itself_and_is_named(
    machine: FakeMachine,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    slow: str,
    phase: str,
    says: str,
    then: str,
) -> None:
    machine.unit_s[slow] = 600
    cancel, start = cancelled(server, machine), machine.start_unit

    def start_unit(name: str, work: str, argv: Any, env: Any = None) -> None:
        start(name, work, argv, env)
        if slow in str(argv):
            machine.clock.at(60, cancel)

    monkeypatch.setattr(machine, "start_unit", start_unit)
    ended = run_flow("install", monkeypatch)
    assert ended is not None
    assert str(ended.message).startswith(f"cancelled in the phase {phase}.")
    assert says in str(ended.message)
    assert "continues there by itself" in str(ended.message)
    assert after_cancel(machine) == []
    machine.clock.sleep(600)
    assert after_cancel(machine) == [then]


@pytest.mark.parametrize("last_look", ["facts.sh", "disk-paths.sh", "disk-digests.sh"])
def test_cancelled_while_the_disks_are_compared_formats_nothing(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch, last_look: str
) -> None:
    machine.shows("installer", disks="vda size 6291456\nvda serial COTTAGE0001\nvdb size 2048\nvdb serial DATA")
    cancel = cancelled(server, machine)
    machine.on("disk-digests.sh", lambda command: "".join(f"{disk} {'0' * 64} {'1' * 64}\n" for disk in command.args))
    machine.after("mv", lambda: None, lambda: machine.before(last_look, cancel))  # the initrd of the standby is there
    ended = run_flow("install", monkeypatch)
    assert ended is not None
    assert str(ended.message).startswith("cancelled in the phase partition. cottage runs the installer")
    assert "Its disks were not formatted. Its dead-man is armed" in str(ended.message)
    assert after_cancel(machine) == []


def test_formatting_is_not_left_half_way(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine.unit_s["disko"] = 300
    machine.after("dead-man-disarm.sh", lambda: machine.clock.at(60, cancelled(server, machine)))
    with caplog.at_level(logging.WARNING, "tests"):
        ended = run_flow("install", monkeypatch)
    assert ended is not None
    assert str(ended.message).startswith("cancelled in the phase install. cottage runs the installer")
    assert "its disk boots the standby" in str(ended.message)
    assert after_cancel(machine)[0] == "disks formatted"
    assert after_cancel(machine)[-2:] == ["standby armed", GUARDED]
    assert [line for line in caplog.messages if "not stopped half-way" in line]


def test_cancelled_on_the_way_into_the_installer_leaves_the_dead_man_in_charge(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.after("run", lambda: machine.clock.at(8, cancelled(server, machine)))
    ended = run_flow("install", monkeypatch)
    assert ended is not None
    assert "Its dead-man is armed: if nobody comes, it goes back to its origin at " in str(ended.message)
    machine.clock.sleep(2000)
    assert not {"disks formatted", "dead-man stopped"} & set(machine.story)
    assert machine.story[-2:] == ["dead-man fires", "origin boots"]


def test_cancelled_while_nothing_answers_says_what_was_known_last(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.instead["installer"] = ""
    machine.after("run", lambda: machine.clock.at(60, cancelled(server, machine)))
    ended = run_flow("install", monkeypatch)
    assert ended is not None
    assert str(ended.message).startswith("cancelled in the phase reconnect. cottage could not be looked at: ")
    assert "the installer was started; its dead-man takes it back to its origin at about" in str(ended.message)


def test_cancelled_in_its_trial_leaves_the_watch_in_charge(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = cancelled(server, machine)
    machine.after("leave-installer.sh", lambda: machine.clock.at(4, cancel))
    ended = run_flow("install", monkeypatch)
    assert ended is not None
    assert str(ended.message).startswith("cancelled in the phase trial.")
    machine.clock.sleep(2000)
    assert after_cancel(machine) == ["trial boots", "installer boots"]


def test_cancelled_when_its_name_is_gone_is_looked_at_by_its_address(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.after("leave-installer.sh", lambda: machine.ways.pop("cottage"))
    cancel = cancelled(server, machine)
    ended = run_flow("install", monkeypatch, before=lambda phase: cancel() if phase == "reboot" else None)
    assert ended is not None
    assert str(ended.message).startswith("cancelled in the phase reboot. cottage runs ")
    assert "its trial" in str(ended.message)


def test_server_that_is_away_stops_nothing(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cancelled = None
    assert run_flow("install", monkeypatch) is None
    assert machine.story[-1] == "standby removed"
    assert report().outcome == "done"


@pytest.mark.parametrize(("command", "phase"), [("upload-append.sh", "kexec"), ("disko", "partition")])
def test_signal_of_prefects_runner_leaves_a_report_that_says_where_the_machine_is(
    machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch, command: str, phase: str
) -> None:
    assert server

    def end() -> None:
        raise TerminationSignal(signal=15)

    machine.before(command, end)
    with pytest.raises(TerminationSignal):
        run_flow("install", monkeypatch)
    written = report()
    assert written.outcome == "cancelled"
    assert written.phases[-1].name == phase
    assert f"told to end: cancelled in the phase {phase}. cottage runs " in written.error
