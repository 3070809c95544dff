"""Which system is told to reboot, and how."""

import pytest

from holdfast.base.errors import UnexpectedState
from holdfast.plan.results import Rebooted
from tasks import reboot as file
from tests.unit.cases import built, facts, host, plan
from tests.unit.server import body
from tests.unit.target import FakeMachine

pytestmark = pytest.mark.usefixtures("server")


def reboot(machine: FakeMachine) -> Rebooted:
    done = body(file.reboot)(host(), plan(facts("debian-12")), built(toplevel=machine.toplevel))
    assert isinstance(done, Rebooted)
    return done


@pytest.mark.parametrize(("runs", "told"), [("trial", ["systemctl", "reboot"]), ("installer", ["/mnt", "reboot"])])
def test_what_has_to_reboot_does(machine: FakeMachine, runs: str, told: list[str]) -> None:
    machine.is_in(runs)
    boot_id = machine.boot_id
    done = reboot(machine)
    assert machine.story == ["locked", "told to reboot"]
    assert machine.commands[-1].args[-2:] == told
    assert (done.boot_id, done.skipped, done.rebooted_at > 0) == (boot_id, "", True)


def test_system_that_booted_from_its_disk_is_left_alone(machine: FakeMachine) -> None:
    machine.is_in("final")
    assert "runs the installed system" in reboot(machine).skipped
    assert machine.story == []


def test_origin_is_not_rebooted(machine: FakeMachine) -> None:
    with pytest.raises(UnexpectedState):
        reboot(machine)
    assert machine.story == []
