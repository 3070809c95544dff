"""Mounting the new root again: a pool that the new system has used in its trial is released first."""

import pytest

from holdfast.base.errors import CommandFailed
from holdfast.target.machine import Machine
from holdfast.target.mounting import mount_again
from tests.log import Remembered
from tests.unit.cases import built, facts, host, plan
from tests.unit.programs import Command, Done
from tests.unit.target import FakeMachine

pytestmark = pytest.mark.usefixtures("desk")
HOST = host()
PLAN = plan(facts("debian-12"), HOST)
INSTALLER = facts("installer")
REFUSED = (
    "cannot import 'zroot': pool was previously in use from another system.\n"
    "Last accessed by cottage (hostid=c0ffee00) at Sat Nov 28 15:01:02 2026\n"
    "The pool can be imported, use 'zpool import -f' to import the pool.\n"
)
RELEASED = "released: the pool zroot, which another system has used and not exported\n"


def mount(machine: FakeMachine, log: Remembered) -> None:
    machine.is_in("installer")
    here = Machine(HOST, log)
    mount_again(here, here.connect(), built(), PLAN, INSTALLER)


def refuse(machine: FakeMachine, times: int) -> None:
    """Let the mount script fail so often, as it does for such a pool."""
    left = [Done(stderr=REFUSED, status=1)] * times

    def mount_script(fake: FakeMachine, _: Command) -> Done:
        if left:
            return left.pop()
        fake.mounted = True
        return Done()

    machine.on("disko-mount", lambda command: mount_script(machine, command))


def test_pool_of_the_trial_is_released_and_mounted(machine: FakeMachine, log: Remembered) -> None:
    refuse(machine, 1)
    machine.on("release-pools.sh", lambda _: RELEASED)
    mount(machine, log)
    assert machine.mounted
    assert machine.told("release-pools.sh") == [["/dev/vda"]]
    assert len(machine.told("disko-mount")) == 2
    assert RELEASED.strip() in log.lines


def test_without_such_a_pool_the_first_failure_counts(machine: FakeMachine, log: Remembered) -> None:
    refuse(machine, 1)
    machine.on("release-pools.sh", lambda _: Done())
    with pytest.raises(CommandFailed) as info:
        mount(machine, log)
    assert info.value.result.argv[0].endswith("disko-mount")
    assert len(machine.told("disko-mount")) == 1


def test_failure_after_the_release_is_told(machine: FakeMachine, log: Remembered) -> None:
    refuse(machine, 2)
    machine.on("release-pools.sh", lambda _: RELEASED)
    with pytest.raises(CommandFailed):
        mount(machine, log)
    assert len(machine.told("disko-mount")) == 2


def test_nothing_is_released_if_it_mounts(machine: FakeMachine, log: Remembered) -> None:
    mount(machine, log)
    assert machine.mounted
    assert machine.told("release-pools.sh") == []
