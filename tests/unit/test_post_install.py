"""The user's own command in the final system, in whole runs on the fake machine."""

from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed, DeadlinePassed, UnexpectedState
from holdfast.base.places import POST_INSTALLED
from holdfast.inventory.loading import load_inventory
from tasks.post_install import _digest, post_install
from tests.log import Remembered
from tests.unit.cases import built, facts, host, plan
from tests.unit.programs import Command, Done
from tests.unit.runs import Run
from tests.unit.server import Server, body
from tests.unit.target import RUN, FakeMachine
from tests.unit.test_reinstall import DISKS
from tests.unit.test_whole_runs import inventory as inventory

pytestmark = pytest.mark.usefixtures("desk", "inventory", "server")
FRESH = "0d2b3c4d-3333-4bbb-8ccc-444455556666"
WORDS = ["greet", "a b", "$HOME", "$$", "it's"]


@pytest.fixture
def greeted(machine: FakeMachine, tmp_path: Path) -> list[list[str]]:
    """A host with a command of its own, and what the machine was asked to greet."""
    told: list[list[str]] = []

    def greet(command: Command) -> Done:
        told.append(list(command.args))
        machine.tell("greeted")
        return Done("hello\n", status=3 if command.args[:1] == ["fail"] else 0)

    machine.on("greet", greet)
    machine.shows("final", **DISKS)
    says(tmp_path, 'post_install = ["greet", "a b", "$HOME", "$$", "it\'s"]')
    return told


def says(tmp_path: Path, line: str) -> None:
    path = tmp_path / "hosts.toml"
    kept = [each for each in path.read_text().splitlines() if not each.startswith("post_install")]
    path.write_text("\n".join([*kept, line, ""]))


def test_runs_once_after_the_proof(
    machine: FakeMachine,
    greeted: list[list[str]],
    server: Server,
    log: Remembered,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Run(monkeypatch, RUN).start() is None
    assert greeted == [WORDS[1:]]
    assert machine.story[-4:] == ["standby removed", "locked", "greeted", f"{POST_INSTALLED} written"]
    assert "hello" in log.lines
    server.over[RUN] = True
    assert Run(monkeypatch, FRESH).start() is None
    assert greeted == [WORDS[1:]]


def test_failure_says_that_the_machine_is_installed(
    machine: FakeMachine, greeted: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(tmp_path, 'post_install = ["greet", "fail"]')
    run = Run(monkeypatch, RUN)
    for times in (1, 2):
        with pytest.raises(CommandFailed) as error:
            run.start()
        assert error.value.message.startswith("cottage is installed and proved. Only its post_install failed: ")
        assert "status 3" in error.value.message
        assert "the machine stays installed" in error.value.hint
        assert greeted == [["fail"]] * times
        assert POST_INSTALLED not in machine.files
    says(tmp_path, 'post_install = ["greet", "well"]')
    before = machine.story.count("told to reboot"), machine.boot_id
    assert run.start() is None
    assert greeted[-1] == ["well"]
    assert (machine.story.count("told to reboot"), machine.boot_id) == before


def test_a_link_that_breaks_runs_it_no_second_time(
    machine: FakeMachine, greeted: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.after("greet", lambda: machine.is_away(60))
    assert Run(monkeypatch, RUN).start() is None
    assert greeted == [WORDS[1:]]
    assert POST_INSTALLED in machine.files


def test_one_that_does_not_end_goes_on_there_and_a_retry_joins_it(
    machine: FakeMachine, greeted: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.unit_s["greet"] = 1000.0
    run = Run(monkeypatch, RUN)
    with pytest.raises(DeadlinePassed, match="did not end within 600 s") as error:
        run.start()
    assert "deadlines.post_install_s" in error.value.hint
    assert greeted == []
    assert run.start() is None
    assert greeted == [WORDS[1:]]


def test_only_in_the_final_system(machine: FakeMachine, greeted: list[list[str]]) -> None:
    asked = host(post_install=["greet"])
    with pytest.raises(UnexpectedState, match=r"cottage runs its own system, Debian.*, not its final system"):
        body(post_install)(asked, plan(facts("debian-12"), asked), built(toplevel=machine.toplevel))
    assert greeted == []


def test_inventory(tmp_path: Path) -> None:
    says(tmp_path, 'post_install = ["sh", "-c", "echo a\\nb"]')
    assert load_inventory(tmp_path / "hosts.toml").host("cottage").post_install == ("sh", "-c", "echo a\nb")


def test_commands_are_told_apart() -> None:
    assert len({_digest(("a", "b")), _digest(("a b",)), _digest(("a", "b", ""))}) == 3
