"""Runs of a host whose flake imports a hardware report, on the fake machine: when it is made, and what it stops."""

from pathlib import Path

import pytest

from deployments import plan as show
from holdfast.base.errors import Unreachable
from holdfast.base.settings import settings
from holdfast.facts.hardware import generated, is_placeholder, placeholder
from tests.log import Remembered
from tests.unit.programs import Command, Done
from tests.unit.server import Server
from tests.unit.target import RUN, FakeMachine
from tests.unit.test_cancelled_runs import report, run_flow
from tests.unit.test_hardware import LAPTOP, QEMU
from tests.unit.test_reinstall import DISKS
from tests.unit.test_whole_runs import inventory as inventory

pytestmark = pytest.mark.usefixtures("desk", "inventory", "server")
FRESH = "0d2b3c4d-3333-4bbb-8ccc-444455556666"


@pytest.fixture
def file(tmp_path: Path, machine: FakeMachine) -> Path:
    """Where the report belongs, in a flake that has none yet; the installer has the program, the origin has not."""
    (tmp_path / "flake.nix").write_text("{ }")
    with settings().inventory.open("a") as text:
        text.write('hardware_report = { backend = "nixos-generate-config", file = "hosts/hardware.nix" }\n')
    machine.shows("trial", **DISKS)
    tells(machine, {"installer": QEMU})
    return tmp_path / "hosts" / "hardware.nix"


def tells(machine: FakeMachine, said: dict[str, str]) -> None:
    """Let the program be in these systems only, and say this."""

    def run(command: Command) -> Done:
        assert command.args == ["nixos-generate-config"]
        return Done(said[machine.runs]) if machine.runs in said else Done(status=69)

    machine.on("hardware-report.sh", run)


def qemu() -> str:
    return generated(QEMU.encode(), "cottage")


def test_rehearsal_makes_it_in_the_installer_and_an_install_uses_it(
    machine: FakeMachine, server: Server, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    run_flow("rehearse", monkeypatch, before=lambda phase: seen.append(f"{phase}: {there(file)}"))
    assert "preflight: placeholder" in seen
    assert "hardware_seen: placeholder" in seen
    assert "go_back: report" in seen
    assert file.read_text() == qemu()
    assert machine.runs == "origin"
    assert report().outcome == "done"

    server.over[RUN] = True
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", FRESH)
    machine.commands.clear()
    assert run_flow("install", monkeypatch) is None
    assert machine.runs == "final"
    assert not machine.told("hardware-report.sh"), "the file is as the user saw it"


def there(file: Path) -> str:
    if not file.exists():
        return "nothing"
    return "placeholder" if is_placeholder(file.read_text()) else "report"


def test_install_without_a_report_stops_before_anything(
    machine: FakeMachine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.parent.mkdir()
    for text in ("", placeholder("nixos-generate-config", "x86_64-linux")):
        file.write_text(text)
        ended = run_flow("install", monkeypatch)
        assert ended is not None
        assert "has no nixos-generate-config in the system that runs; nothing was changed" in str(ended.message)
        assert "just rehearse cottage" in str(ended.message)
    assert machine.story == []


def test_stopped_in_the_installer_the_next_run_makes_it_there(
    machine: FakeMachine, server: Server, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = run_flow("install", monkeypatch, until="reconnect")
    assert ended is not None
    assert ended.is_completed()
    assert (machine.runs, there(file)) == ("installer", "placeholder")
    assert "only stands for a hardware report" in server.artifacts["plan-cottage"]
    server.over[RUN] = True
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", FRESH)
    assert run_flow("install", monkeypatch) is None
    assert (machine.runs, file.read_text()) == ("final", qemu())
    assert machine.story.count("installer started by kexec") == 1


def test_origin_that_has_the_program_makes_it_at_once(
    machine: FakeMachine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tells(machine, {"origin": LAPTOP})
    assert run_flow("install", monkeypatch) is None
    assert file.read_text() == generated(LAPTOP.encode(), "cottage")
    assert machine.runs == "final"


def test_retry_does_not_touch_it_once_the_flake_is_locked(
    machine: FakeMachine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tells(machine, {"origin": LAPTOP})

    def fails_later(phase: str) -> None:
        if phase == "approve" and file.exists():
            raise Unreachable("a cable.")

    assert "a cable" in str(getattr(run_flow("install", monkeypatch, before=fails_later), "message", ""))
    file.unlink()
    assert run_flow("install", monkeypatch) is None
    assert not file.exists()
    assert machine.runs == "final"


@pytest.mark.parametrize("said", ["", QEMU.replace('"kvm-intel"', "(import /x)")])
def test_rehearsal_brings_the_machine_back_whatever_the_program_says(
    machine: FakeMachine, file: Path, log: Remembered, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    tells(machine, {"installer": said} if said else {})
    run_flow("rehearse", monkeypatch)
    assert (machine.runs, there(file)) == ("origin", "placeholder")
    assert report().outcome == "done"
    output = (settings().runs_dir / RUN / "output.log").read_text()
    assert ("made a report that is not taken over" if said else "has no nixos-generate-config") in output or log


def test_rehearsal_keeps_what_the_user_has_changed(
    machine: FakeMachine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.parent.mkdir()
    file.write_text("{ mine = 1; }\n")
    run_flow("rehearse", monkeypatch)
    assert file.read_text() == "{ mine = 1; }\n"
    assert machine.runs == "origin"
    output = (settings().runs_dir / RUN / "output.log").read_text()
    assert "-{ mine = 1; }" in output
    assert '+  boot.kernelModules = [ "kvm-intel" ];' in output


def test_plan_says_what_to_do(machine: FakeMachine, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show.main("cottage") == 2
    assert "hardware.nix is not there yet. Hint: Run `just rehearse cottage`" in capsys.readouterr().err
    assert not file.exists()
    assert machine.story == []
