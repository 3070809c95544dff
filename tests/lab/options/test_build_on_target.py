"""The target builds its system itself, from the plan's derivations: first one that does not build, then the right one.

The operator's store never has the system. The tests run in the order of this file: the machine is installed only once.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.flow_runs import PHASES, ended, phases_before, report_of, start
from lab.operator import Operator
from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.options]

SYSTEM = "nixos-system-cottage-lab"


@pytest.fixture(scope="module", autouse=True)
def remote(operator: Operator) -> Iterator[None]:
    inventory = operator.lab.run_dir / "hosts.toml"
    before = inventory.read_text()
    inventory.write_text(f'{before}build_on = "remote"\n')
    yield
    inventory.write_text(before)


@contextmanager
def system_that_does_not_build(lab: Lab) -> Iterator[None]:
    """Let the system fail to build while the body runs; it can be evaluated, and its disko script is the same."""
    file = lab.run_dir / "flake" / "build" / "toplevel.sh"
    right = file.read_text()
    try:
        file.write_text(f"{right}echo 'no such luck' >&2\nexit 3\n")
        yield
    finally:
        file.write_text(right)


def said_in(lab: Lab) -> str:
    """Return what the runs said, and passed on of their commands' lines."""
    return (lab.run_dir / "serve.log").read_text()


def built_here(lab: Lab) -> list[str]:
    """Return what of the system is in the operator's store, apart from its derivations."""
    store = lab.run_dir / "nix" / "nix" / "store"
    return [path.name for path in store.iterdir() if path.name.endswith((SYSTEM, "-disko", "-userland", "-linux"))]


def test_system_that_does_not_build_leaves_the_machine_in_the_installer(lab: Lab, operator: Operator) -> None:
    with system_that_does_not_build(lab):
        run_id = start(operator)
        run = ended(operator, run_id)
    assert run["state"]["type"] == "FAILED"
    report = report_of(operator, run_id)
    assert tuple(phase["name"] for phase in report["phases"]) == (*phases_before("install"), "install")
    said = said_in(lab)
    assert "no such luck" in said
    assert "to build its system in the installer: these " in said
    # Its disko script was built there before anything was formatted, and with the disk's standby it comes back.
    assert said.index("-disko.drv'...") < said.index("formatting /dev/")
    assert "if the power fails from now on, the new disk boots the installer again" in said
    assert lab.ssh_local(["sh", "-c", "ls -d /nix/store/*-disko"]).count("\n") == 1
    assert lab.ssh_local(["cat", "/run/holdfast/installer.json"])


def test_right_system_is_built_on_the_formatted_disk(lab: Lab, operator: Operator) -> None:
    run_id = start(operator)
    run = ended(operator, run_id)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    report = report_of(operator, run_id)
    assert {phase["name"] for phase in report["phases"]} == set(PHASES)
    assert report["closure"]["built"] == report["closure"]["booted"]
    assert report["closure"]["built"].endswith(SYSTEM)
    assert report["identity"]["final"] == report["identity"]["installer"]
    said = said_in(lab)
    assert f"{SYSTEM}.drv'..." in said
    assert said.count("formatting /dev/") == 1  # that of the first run


def test_operator_has_built_nothing_of_it(lab: Lab) -> None:
    assert built_here(lab) == []


def test_nothing_of_the_work_is_left_on_the_new_disk(lab: Lab) -> None:
    assert lab.ssh_local(["sh", "-c", "ls /nix"]).split() == ["store", "var"]
