"""Which system is told to reboot, and how."""

import pytest

from holdfast.base.errors import BackInInstaller, UnexpectedState
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
    machine.mounted = runs == "installer"
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


def test_machine_that_came_back_is_not_rebooted_into_the_installer_again(machine: FakeMachine) -> None:
    machine.is_in("installer")
    machine.mounted = machine.standby = True
    assert machine.efi
    machine.efi.order = ["standby", "new system"]
    with pytest.raises(BackInInstaller, match="in the installer again"):
        reboot(machine)
    assert machine.story == ["locked"]


@pytest.mark.parametrize(("order", "way_back"), [(["standby", "new system"], True), (["new system"], False)])
def test_new_system_comes_once_if_the_standby_is_kept(machine: FakeMachine, order: list[str], way_back: bool) -> None:
    machine.is_in("trial")
    assert machine.efi
    machine.efi.order = order
    assert reboot(machine).way_back is way_back
    assert machine.efi.once == ("new system" if way_back else "")
