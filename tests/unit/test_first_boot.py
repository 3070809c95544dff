"""Whole installs on a fake machine with UEFI: the standby stays first until verify has proved the first boot."""

import json
from collections.abc import Callable

import pytest

from holdfast.base.errors import BackInInstaller, ConnectionLost, HoldfastError, NeverCame, TargetRefused
from holdfast.facts.efi import EfiFacts
from holdfast.target.standby import StandbyStays
from tasks.finish import finish
from tasks.run.journal import Attempt
from tasks.run.report import assemble
from tests.log import Remembered
from tests.unit.cases import answer, built, facts, host, plan
from tests.unit.desk import Desk
from tests.unit.firmware import NEW, STANDBY, Firmware
from tests.unit.programs import Command, Done
from tests.unit.runs import Run
from tests.unit.server import Server, body
from tests.unit.target import RUN, FakeMachine
from tests.unit.test_whole_runs import inventory as inventory

pytestmark = pytest.mark.usefixtures("desk", "inventory")
MARK = f'{{"run_id": "{RUN}", "plan_digest": "x"}}'
OTHER_RUN = "1d2b3c4d-aaaa-4bbb-8ccc-444455556666"
GUARDED = "order standby, disk, network, once standby"
# From the trial on.
TRIED = ["new system loaded", "told to kexec", "trial boots", "watch stopped"]
BOOT_LOADER = ["boot loader installed", "order standby, new system, disk, network, once new system"]
SETTLED = ["order new system, disk, network", "standby removed"]
REBOOTED = ["locked", "told to reboot"]


@pytest.fixture
def uefi(machine: FakeMachine) -> Firmware:
    assert machine.efi
    return machine.efi


@pytest.fixture
def run(machine: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch) -> Run:
    server.over[RUN] = True  # as far as another run is concerned
    origin = json.loads(answer("debian-12"))
    for system in ("trial", "final"):  # on the same disks
        machine.shows(system, disks=origin["disks"], disk_links=origin["disk_links"], lsblk="", blkid="")
    return Run(monkeypatch, RUN)


def since(machine: FakeMachine, what: str) -> list[str]:
    """Return the story from the last time that this happened on."""
    at = len(machine.story) - machine.story[::-1].index(what) - 1
    return machine.story[at:]


def clean(machine: FakeMachine) -> bool:
    """Whether nothing of the standby is left, and the machine starts the new system."""
    assert machine.efi
    return (machine.runs, machine.standby, machine.efi.order, machine.efi.once) == (
        *("final", False, [NEW, "disk", "network"], ""),
    )


def test_standby_stays_first_until_the_first_boot_is_proved(
    machine: FakeMachine, uefi: Firmware, run: Run, log: Remembered
) -> None:
    run.start()
    assert [line for line in machine.story if line == GUARDED] == [GUARDED]
    assert machine.story.index("standby armed") + 1 == machine.story.index(GUARDED)
    assert since(machine, "new system loaded") == [*TRIED, *BOOT_LOADER, *REBOOTED, "final boots", *SETTLED]
    assert clean(machine)
    assert log.warned == []
    assert uefi.current == NEW


@pytest.mark.parametrize("way", ["fails", "hangs"])
def test_boot_loader_that_does_not_start_the_system_leads_to_the_installer(
    machine: FakeMachine, uefi: Firmware, run: Run, way: str
) -> None:
    uefi.boot_loader = way
    if way == "fails":
        with pytest.raises(BackInInstaller, match=r"did not start .*-nixos-system, which its trial has proved") as info:
            run.start()
        assert "starts with the trial again, and formats nothing" in info.value.hint
    else:
        with pytest.raises(NeverCame, match="switched off and on, the machine starts the installer from its disk"):
            run.start()
        machine.reset()
        machine.clock.sleep(60)
        with pytest.raises(BackInInstaller):
            run.start()
    assert (machine.runs, machine.standby, uefi.order[0]) == ("installer", True, STANDBY)
    uefi.boot_loader = "starts"
    formatted = machine.story.count("disks formatted")
    run.start()
    assert clean(machine)
    assert machine.story.count("disks formatted") == formatted
    assert machine.story.count("trial boots") == 2


def test_fresh_run_continues_in_the_installer_that_came_back(
    machine: FakeMachine, uefi: Firmware, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    uefi.boot_loader = "fails"
    with pytest.raises(BackInInstaller):
        run.start()
    uefi.boot_loader = "starts"
    Run(monkeypatch, OTHER_RUN).start()
    assert clean(machine)
    assert machine.story.count("disks formatted") == 1


# When something happens: the command, the words that it begins with, and whether before or after it.
WINDOWS = {
    "before the boot loader": ("switch-to-configuration", "before"),
    "after the boot loader": ("switch-to-configuration", "after"),
    "before the order is set": ("efi-boot.sh keep / next", "before"),
    "after the order is set": ("efi-boot.sh keep / next", "after"),
    "before the reboot": ("systemd-run", "before"),
    "at the reboot": ("systemd-run", "after"),
    "before the proof": ("efi-boot.sh settle / booted", "before"),
    "after the order is set for good": ("efi-boot.sh settle / booted", "after"),
    "after the standby's files": ("standby.sh remove /", "after"),
}


def at(machine: FakeMachine, window: tuple[str, str], action: Callable[[], object]) -> None:
    """Let something happen once, in a window."""
    what, when = window
    name, *words = what.split()
    done: list[bool] = []
    served = machine._handlers[name]

    def serve(command: Command) -> Done | str | None:
        if done or command.args[: len(words)] != words:
            return served(command)
        done.append(True)
        if when == "before":
            action()
            return served(command) if machine.up else Done(status=1)
        said = served(command)
        action()
        return said

    machine.on(name, serve)


class Killed(Exception):
    """The flow's process dies."""


def die() -> None:
    raise Killed


def killed_and_finished(machine: FakeMachine, run: Run, window: tuple[str, str], then: Run) -> None:
    """Let a run die in a window, and another one, or the same again, finish it."""
    what, when = window
    if what == "switch-to-configuration":  # it is a unit, and goes on by itself
        what = f"unit-start.sh holdfast-boot-loader-{run.run_id[:8]}.service"
    at(machine, (what, when), die)
    with pytest.raises(Killed):
        run.start()
    machine.clock.sleep(120)
    then.start()


@pytest.mark.usefixtures("uefi")
@pytest.mark.parametrize("fresh", [False, True], ids=["retry", "fresh run"])
@pytest.mark.parametrize("window", WINDOWS)
def test_run_that_is_killed_anywhere_is_finished(
    machine: FakeMachine, run: Run, monkeypatch: pytest.MonkeyPatch, window: str, fresh: bool
) -> None:
    killed_and_finished(machine, run, WINDOWS[window], Run(monkeypatch, OTHER_RUN) if fresh else run)
    assert clean(machine)
    assert machine.story.count("disks formatted") == 1


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("boot_loader", ["starts", "fails"])
def test_power_cut_anywhere_leads_on(
    machine: FakeMachine, uefi: Firmware, run: Run, window: str, boot_loader: str
) -> None:
    uefi.boot_loader = boot_loader
    cut: list[bool] = []

    def fail() -> None:
        cut.append(True)
        uefi.boot_loader = "starts"
        machine.reset()

    at(machine, WINDOWS[window], fail)
    for _ in range(5):
        try:
            run.start()
        except HoldfastError:
            # Nothing is lost, whatever the boot loader does: it is in a system that answers.
            machine.clock.sleep(120)
            assert (machine.up, machine.runs in ("installer", "trial", "final")) == (True, True)
        else:
            break
        if not cut:
            uefi.boot_loader = "starts"
    assert cut
    assert clean(machine)
    assert machine.story.count("disks formatted") == 1


@pytest.mark.usefixtures("uefi")
def test_run_that_died_after_the_reboot_is_finished_though_the_flake_has_changed(
    machine: FakeMachine, desk: Desk, run: Run, monkeypatch: pytest.MonkeyPatch, log: Remembered
) -> None:
    at(machine, WINDOWS["at the reboot"], die)
    with pytest.raises(Killed):
        run.start()
    machine.clock.sleep(120)
    assert (machine.runs, machine.standby) == ("final", True)
    desk.built = built(toplevel=f"/nix/store/{'b' * 32}-nixos-system")
    machine.shows("final", system_mark=MARK)
    ended = Run(monkeypatch, OTHER_RUN).start()
    assert ended is not None
    assert ended.name == "Installed already"
    assert clean(machine)
    assert "the standby is removed: from now on the disk starts the new system only" in log.said


@pytest.mark.parametrize(
    ("system", "changed", "skipped"),
    [
        ("origin", {}, "no run of Holdfast"),
        ("final", {}, "no run of Holdfast"),  # a NixOS of that name, without our mark
        ("trial", {"system_mark": MARK}, "no run of Holdfast"),
        ("final", {"system_mark": MARK, "uid": "1000"}, "is not root"),
        ("final", {"system_mark": MARK}, ""),
    ],
)
def test_finish_touches_only_what_holdfast_has_installed(
    machine: FakeMachine, uefi: Firmware, server: Server, system: str, changed: dict[str, str], skipped: str
) -> None:
    assert server
    machine.is_in(system, **({"system_mark": ""} | changed))
    machine.standby, uefi.order = True, [STANDBY, NEW]
    done = body(finish)(host(), plan(facts("debian-12")))
    assert skipped in done.skipped
    assert machine.standby is bool(skipped)


@pytest.mark.usefixtures("uefi")
@pytest.mark.parametrize("when", ["before", "after"])
def test_broken_link_while_the_order_is_set_costs_no_way_back(
    machine: FakeMachine, run: Run, log: Remembered, when: str
) -> None:
    at(machine, ("efi-boot.sh keep / next", when), machine.cut)
    with pytest.raises(ConnectionLost):  # the phase is tried again
        run.start()
    run.start()
    assert [line for line in log.warned if "first boot" in line] == []
    assert machine.story.count("standby removed") == 1
    assert machine.story.index("final boots") < machine.story.index("standby removed")
    assert clean(machine)


def test_full_memory_of_the_firmware_loses_the_standby_and_is_said(
    machine: FakeMachine, uefi: Firmware, run: Run, log: Remembered
) -> None:
    uefi.refuses = "the firmware does not take Boot0002 (No space left on device)"
    run.start()
    assert since(machine, "new system loaded") == [
        *TRIED,
        "boot loader installed",
        "standby removed",
        *REBOOTED,
        "final boots",
    ]
    assert log.warned == [f"nothing leads back from the first boot: {uefi.refuses}"]
    assert clean(machine)


def test_boot_loader_finds_the_firmwares_memory_full(
    machine: FakeMachine, uefi: Firmware, run: Run, log: Remembered
) -> None:
    served = machine._handlers["switch-to-configuration"]

    def install(command: Command) -> Done | str | None:
        if STANDBY in uefi.order:
            return Done(stderr="Could not prepare Boot variable: No space left on device\n", status=1)
        return served(command)

    machine.on("switch-to-configuration", install)
    run.start()
    assert "the firmware's memory for entries is full" in log.warned[0]
    assert log.warned[1:] == ["nothing leads back from the first boot: there is no standby below /"]
    assert clean(machine)


def test_firmware_that_forgets_is_said(machine: FakeMachine, uefi: Firmware, run: Run, log: Remembered) -> None:
    machine.before("systemd-run", lambda: setattr(uefi, "forgets", True))
    run.start()
    assert log.warned == ["the firmware had no entry of the standby any more: it does not keep what it is told"]
    assert clean(machine)


def test_firmware_that_is_deaf_to_what_comes_next_leaves_the_machine_in_the_installer(
    machine: FakeMachine, uefi: Firmware, run: Run
) -> None:
    uefi.deaf = True
    for _ in range(2):
        with pytest.raises(BackInInstaller) as info:
            run.start()
        assert "`standby = false`" in info.value.hint
    assert (machine.up, machine.runs) == (True, "installer")


@pytest.mark.usefixtures("uefi")
def test_failed_units_keep_the_way_back(machine: FakeMachine, run: Run) -> None:
    machine.failed_units = ("app.service",)
    with pytest.raises(TargetRefused, match=r"app\.service") as info:
        run.start()
    assert info.value.hint.endswith("Until that has succeeded, a reboot starts the installer.")
    assert machine.standby
    machine.failed_units = ()
    run.start()
    assert clean(machine)


@pytest.mark.usefixtures("uefi")
def test_standby_that_stays_on_the_disk_is_no_success(machine: FakeMachine, run: Run) -> None:
    served = machine._handlers["standby.sh"]
    machine.on("standby.sh", lambda command: "rm: cannot" if command.args[0] == "remove" else served(command))
    with pytest.raises(StandbyStays):
        run.start()
    machine.on("standby.sh", served)
    run.start()
    assert clean(machine)


@pytest.mark.usefixtures("uefi")
def test_without_a_trial_nothing_of_the_standby_stays(machine: FakeMachine, run: Run) -> None:
    machine.lacks.add("kexec")
    run.start()
    assert "trial boots" not in machine.story
    assert clean(machine)


@pytest.mark.usefixtures("uefi")
def test_trial_without_the_firmwares_variables_is_said(machine: FakeMachine, run: Run, log: Remembered) -> None:
    machine.shows("trial", firmware="bios")
    keep = machine._handlers["efi-boot.sh"]
    why = "none: this system was not started by UEFI"
    machine.on("efi-boot.sh", lambda command: why if machine.runs == "trial" else keep(command))
    run.start()
    assert log.warned[0] == "nothing leads back from the first boot: this system was not started by UEFI"
    assert not machine.standby


@pytest.mark.usefixtures("uefi")
def test_report_has_the_entries_before_and_after(run: Run) -> None:
    run.start()
    plan, verified = run.results["preflight"], run.results["verify"]
    assert isinstance(verified.efi, EfiFacts)  # type: ignore[attr-defined]
    [row] = [row for row in plan.way_back if row.subject == "first boot"]  # type: ignore[attr-defined]
    assert row.seen.endswith("takes an order: 0001 SSD (disk), 0000 PXE (network)")
    entries = [_done(name, result) for name, result in (("preflight", plan), ("verify", verified))]
    made = assemble(RUN, "install", "cottage", entries, peak_rss_bytes=0)
    assert made.efi
    assert made.efi.before
    assert made.efi.after
    assert made.efi.before.order == ("0001", "0000")
    assert made.efi.before.entries == ("0001 SSD (disk)", "0000 PXE (network)")
    assert made.efi.after.order == ("0003", "0001", "0000")
    shown = made.to_markdown()
    assert "firmware's order before: 0001 SSD" in shown
    assert "firmware's order after: 0003 Linux Boot Manager" in shown


def _done(name: str, result: object) -> Attempt:
    return Attempt(
        phase=name,
        outcome="done",
        started_at=0,
        seconds=1,
        start=1,
        result=result.model_dump(mode="json"),  # type: ignore[attr-defined]
    )
