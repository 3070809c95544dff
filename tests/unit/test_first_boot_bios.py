"""Whole installs on a fake machine with BIOS and GRUB: the disk starts the standby until verify has proved the boot."""

import pytest

from holdfast.base.errors import BackInInstaller, ConnectionLost, HoldfastError, NeverCame, TargetRefused
from holdfast.target.standby import StandbyStays
from tests.log import Remembered
from tests.unit.boot_code import BootCode
from tests.unit.cases import CONFIGURATION
from tests.unit.desk import Desk
from tests.unit.programs import Command, Done
from tests.unit.runs import Run
from tests.unit.target import FakeMachine
from tests.unit.test_first_boot import (
    OTHER_RUN,
    REBOOTED,
    TRIED,
    WINDOWS,
    Killed,
    at,
    die,
    killed_and_finished,
    since,
)
from tests.unit.test_first_boot import run as run
from tests.unit.test_whole_runs import inventory as inventory

pytestmark = pytest.mark.usefixtures("desk", "inventory")
KEPT = ["boot loader installed", "disk starts new system once, then standby"]
SETTLED = ["disk starts new system", "standby removed"]
BIOS_WINDOWS = {
    name.replace("the order", "the code"): (
        what.replace("efi-boot.sh", "bios-boot.sh").replace("settle / booted", "settle /"),
        when,
    )
    for name, (what, when) in WINDOWS.items()
}


@pytest.fixture
def code(machine: FakeMachine, desk: Desk) -> BootCode:
    machine.has_bios()
    grub = CONFIGURATION["grub"] | {"bios": True}
    desk.configuration = CONFIGURATION | {"boot_loaders": ["grub"], "grub": grub}
    assert machine.boot_code
    return machine.boot_code


def clean(machine: FakeMachine) -> bool:
    """Whether nothing of the standby is left, and the disk starts the new system."""
    assert machine.boot_code
    return (machine.runs, machine.standby, machine.boot_code.new) == ("final", False, True)


@pytest.mark.usefixtures("code")
def test_standby_stays_until_the_first_boot_is_proved(machine: FakeMachine, run: Run, log: Remembered) -> None:
    run.start()
    assert since(machine, "new system loaded") == [*TRIED, *KEPT, *REBOOTED, "final boots", *SETTLED]
    assert clean(machine)
    assert log.warned == []
    assert machine.told("efi-boot.sh") == []


def test_boot_loader_that_hangs_leads_to_the_installer_at_the_next_power_cycle(
    machine: FakeMachine, code: BootCode, run: Run
) -> None:
    code.boot_loader = "hangs"
    with pytest.raises(NeverCame, match="switched off and on, the machine starts the installer from its disk"):
        run.start()
    machine.reset()
    machine.clock.sleep(60)
    with pytest.raises(BackInInstaller, match=r"did not start .*-nixos-system, which its trial has proved"):
        run.start()
    assert (machine.runs, machine.standby, code.new) == ("installer", True, False)
    code.boot_loader = "starts"
    run.start()
    assert clean(machine)
    assert (machine.story.count("disks formatted"), machine.story.count("trial boots")) == (1, 2)


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("fresh", [False, True], ids=["retry", "fresh run"])
@pytest.mark.parametrize("window", BIOS_WINDOWS)
def test_run_that_is_killed_anywhere_is_finished(
    machine: FakeMachine, run: Run, monkeypatch: pytest.MonkeyPatch, window: str, fresh: bool
) -> None:
    killed_and_finished(machine, run, BIOS_WINDOWS[window], Run(monkeypatch, OTHER_RUN) if fresh else run)
    assert clean(machine)
    assert machine.story.count("disks formatted") == 1


# Between the boot loader and its code's keeping, the disk starts the new boot loader, as it always did.
KEEPS = [name for name in BIOS_WINDOWS if name not in ("after the boot loader", "before the code is set")]


@pytest.mark.parametrize(
    ("window", "boot_loader"),
    [(window, "starts") for window in BIOS_WINDOWS]
    + [(window, "hangs") for window in KEEPS if "proof" not in window and "after the code is set for" not in window],
)
def test_power_cut_anywhere_leads_on(
    machine: FakeMachine, code: BootCode, run: Run, window: str, boot_loader: str
) -> None:
    code.boot_loader = boot_loader
    cut: list[bool] = []

    def fail() -> None:
        cut.append(True)
        machine.reset()

    at(machine, BIOS_WINDOWS[window], fail)
    for _ in range(5):
        try:
            run.start()
        except HoldfastError:
            machine.clock.sleep(120)
            if not machine.up:  # the new system had its one start: one more power cycle leads to the standby
                assert boot_loader == "hangs"
                machine.reset()
                machine.clock.sleep(60)
            assert (machine.up, machine.runs in ("installer", "trial", "final")) == (True, True)
            code.boot_loader = "starts"
        else:
            break
    assert cut
    assert clean(machine)
    assert machine.story.count("disks formatted") == 1


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("words", ["keep / next", "settle /"])
def test_broken_link_costs_no_way_back(machine: FakeMachine, run: Run, log: Remembered, words: str, when: str) -> None:
    at(machine, (f"bios-boot.sh {words}", when), machine.cut)
    with pytest.raises(ConnectionLost):  # the phase is tried again
        run.start()
    assert machine.standby
    run.start()
    assert [line for line in log.warned if "first boot" in line] == []
    assert machine.story.index("final boots") < machine.story.index("standby removed")
    assert clean(machine)


@pytest.mark.parametrize(
    ("grub", "refuses", "why"),
    [
        (False, "", "the new boot loader in the first bytes of /dev/vda is not GRUB"),
        (True, "/dev/vda cannot be written (Input/output error)", "/dev/vda cannot be written (Input/output error)"),
    ],
)
def test_what_cannot_be_kept_is_said(
    machine: FakeMachine, code: BootCode, run: Run, log: Remembered, grub: bool, refuses: str, why: str
) -> None:
    code.grub, code.refuses = grub, refuses
    run.start()
    assert since(machine, "boot loader installed")[-4:] == ["standby removed", *REBOOTED, "final boots"]
    assert log.warned == [f"nothing leads back from the first boot: {why}"]
    assert clean(machine)


def test_standby_that_the_disk_starts_is_not_removed(
    machine: FakeMachine, code: BootCode, run: Run, log: Remembered
) -> None:
    machine.before("systemd-run", lambda: setattr(code, "refuses", "/dev/vda cannot be written (Input/output error)"))
    with pytest.raises(StandbyStays, match="cannot be written"):
        run.start()
    assert (machine.standby, code.new) == (True, False)
    code.refuses = ""
    run.start()
    assert clean(machine)
    assert log.warned == []


@pytest.mark.usefixtures("code")
def test_script_that_fails_is_no_reason_to_remove_what_the_disk_starts(
    machine: FakeMachine, run: Run, log: Remembered
) -> None:
    served = machine._handlers["bios-boot.sh"]

    def fail(command: Command) -> Done | str | None:
        said = served(command)
        if command.args[-1] == "next" or command.args[0] == "settle":
            return Done(stderr="killed\n", status=137)
        return said

    machine.on("bios-boot.sh", fail)
    with pytest.raises(StandbyStays):
        run.start()
    assert machine.standby
    assert "nothing leads back from the first boot" in log.warned[0]
    assert "the standby is still on the boot partition" in log.warned[1]
    machine.on("bios-boot.sh", served)
    run.start()
    assert clean(machine)


@pytest.mark.usefixtures("code")
def test_failed_units_keep_the_way_back(machine: FakeMachine, run: Run) -> None:
    machine.failed_units = ("app.service",)
    with pytest.raises(TargetRefused, match=r"app\.service") as info:
        run.start()
    assert info.value.hint.endswith("Until that has succeeded, a reboot starts the installer.")
    assert machine.standby
    machine.failed_units = ()
    run.start()
    assert clean(machine)


@pytest.mark.usefixtures("code")
def test_without_a_trial_nothing_of_the_standby_stays(machine: FakeMachine, run: Run) -> None:
    machine.lacks.add("kexec")
    run.start()
    assert "trial boots" not in machine.story
    assert clean(machine)


@pytest.mark.usefixtures("code")
def test_run_that_died_is_finished_by_a_fresh_one(
    machine: FakeMachine, run: Run, monkeypatch: pytest.MonkeyPatch, log: Remembered
) -> None:
    at(machine, BIOS_WINDOWS["at the reboot"], die)
    with pytest.raises(Killed):
        run.start()
    machine.clock.sleep(120)
    assert (machine.runs, machine.standby) == ("final", True)
    Run(monkeypatch, OTHER_RUN).start()
    assert clean(machine)
    assert "the standby is removed: from now on the disk starts the new system only" in log.said
