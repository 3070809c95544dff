"""A machine in use, over whole runs on the fake machine: fresh runs and Retry in each stage, with and without word."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.base import process
from holdfast.base.command import CommandResult
from holdfast.base.errors import HoldfastError, TargetRefused
from holdfast.base.places import INSTALLER_MARK, MARK_IN_RAM, MARK_ON_DISK
from holdfast.inventory.loading import chosen_host
from tasks.run.flow import INSTALLED_ALREADY
from tests.unit.cases import built
from tests.unit.desk import Desk
from tests.unit.programs import Command, Done
from tests.unit.runs import Run
from tests.unit.server import Server
from tests.unit.target import RUN, FakeMachine
from tests.unit.test_image import whole, write
from tests.unit.test_whole_runs import inventory

assert inventory  # a fixture for each test here

OLD = f"/nix/store/{'b' * 32}-nixos-system"
NEW = f"/nix/store/{'a' * 32}-nixos-system"
FIRST = "0d2b3c4d-1111-4bbb-8ccc-444455556666"
SECOND = "0d2b3c4d-2222-4bbb-8ccc-444455556666"
WIPED = "disks formatted"
BEFORE_DISKO = "dead-man-disarm.sh"  # of the dead-man, in the phase partition
# The recorded NixOS on the disks and the node of the other systems.
DISKS = {
    "disks": "vda size 6291456\nvda number 254:0\nvda serial COTTAGE0001\n",
    "disk_links": "/dev/disk/by-id/virtio-COTTAGE0001 vda\n",
    "udev_serials": "",
    "lsblk": "",
    "mountinfo": "",
}


@pytest.fixture
def used(machine: FakeMachine, desk: Desk, server: Server) -> FakeMachine:
    """The machine, installed by an earlier run with another configuration than the flake's; its disks are pinned."""
    server.over |= {FIRST: True, SECOND: True, RUN: True}
    desk.built = built(toplevel=NEW)
    machine.toplevel = OLD
    for system in ("trial", "final"):
        machine.shows(system, **DISKS)
    machine.is_in("final")
    machine.after("nixos-install", *[lambda: setattr(machine, "toplevel", NEW)] * 3)
    return machine


def asks_nobody_whatever_it_says(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.toml"
    hosts.write_text(f'{hosts.read_text()}approve = "never"\n')


def comes_into_use(machine: FakeMachine) -> None:
    """Another run has installed it."""
    machine.toplevel = OLD
    machine.is_in("final")


def rehearsed_by(machine: FakeMachine, run_id: str) -> None:
    """It is in the installer that another run started from what ran."""
    disk = machine.runs
    machine.hand_over(run_id, machine.dead_man_s, stock=False)
    machine.leave_for("installer")
    machine.clock.sleep(60)
    machine.story.clear()
    machine.disk = disk


# In use, seen from what runs.

IN_USE: dict[str, Callable[[FakeMachine], None]] = {
    "our mark": lambda machine: machine.shows("final", hostname="barn"),
    "a mark that cannot be read": lambda machine: machine.shows("final", hostname="barn", system_mark="?"),
    "NixOS of that name": lambda machine: machine.shows("final", system_mark=""),
    "in its trial": lambda machine: machine.is_in("trial"),
    "Debian with our mark": lambda machine: machine.is_in("origin", system_mark='{"run_id": "r", "plan_digest": "d"}'),
    "a rehearsal's installer": lambda machine: rehearsed_by(machine, FIRST),
}


@pytest.mark.parametrize("how", IN_USE)
def test_fresh_run_without_the_word_changes_nothing(
    used: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    asks_nobody_whatever_it_says(tmp_path)
    IN_USE[how](used)
    before = used.boot_id, used.runs
    ended = Run(monkeypatch, SECOND).start()
    assert ended is not None
    assert ended.is_completed()
    assert ended.name == INSTALLED_ALREADY
    assert (
        "installed already; to change its configuration use nixos-rebuild, to wipe it start a run with reinstall"
        in (ended.message or "")
    )
    assert (used.story, server.forms, (used.boot_id, used.runs)) == ([], [], before)
    assert "## Nothing is changed" in server.artifacts["plan-cottage"]
    assert "Will be wiped" not in server.artifacts["plan-cottage"]


@pytest.mark.parametrize("system", ["trial", "final"])
@pytest.mark.parametrize(
    "shown",
    [
        {"kexec_load_disabled": "1"},  # security.protectKernelImage, as in NixOS' hardened profile
        {"lockdown": "none [integrity] confidentiality"},
        {"memory": "MemTotal: 300000 kB\nMemAvailable: 9000 kB"},
        {"upload_free_bytes": "0"},
    ],
)
def test_system_of_the_plan_needs_nothing_of_an_origin(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, system: str, shown: dict[str, str]
) -> None:
    """No installer is started there any more: a fresh run ends its trial, or verifies it."""
    used.toplevel = NEW
    used.is_in(system, **shown)
    assert Run(monkeypatch, SECOND).start() is None
    assert WIPED not in used.story
    assert (used.runs, used.disk) == ("final", "final")


@pytest.mark.parametrize("how", IN_USE)
def test_fresh_run_with_the_word_asks_a_person_and_installs(
    used: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    asks_nobody_whatever_it_says(tmp_path)
    IN_USE[how](used)
    assert Run(monkeypatch, SECOND, reinstall=True).start() is None
    assert used.story.count(WIPED) == 1
    assert len(server.forms) == 1
    assert "You are asked because it is in use" in server.forms[0]
    assert "# Reinstall cottage" in server.forms[0]
    assert (used.runs, used.toplevel) == ("final", NEW)


@pytest.mark.parametrize("typed", [None, "barn", ""])
@pytest.mark.parametrize("how", IN_USE)
def test_word_without_a_person_changes_nothing(
    used: FakeMachine,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
    typed: str | None,
) -> None:
    asks_nobody_whatever_it_says(tmp_path)
    IN_USE[how](used)
    server.typed = typed
    with pytest.raises(TargetRefused, match=r"(changed nothing|nothing was changed) on cottage"):
        Run(monkeypatch, SECOND, reinstall=True).start()
    assert set(used.story) <= {"state read"}


@pytest.mark.parametrize(
    "shown",
    [{"hostname": "barn", "system_mark": ""}, {"hostname": "", "system_mark": ""}],
)
def test_nixos_of_another_name_is_an_origin(
    used: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch, shown: dict[str, str]
) -> None:
    used.shows("final", **shown)
    assert Run(monkeypatch, SECOND).start() is None
    assert used.story.count(WIPED) == 1
    assert server.forms == []


def test_mark_is_where_a_root_that_is_emptied_keeps_it(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, desk: Desk
) -> None:
    used.is_in("origin")
    desk.configuration = desk.configuration | {"persisted": {"/var/lib/holdfast": "/persist/var/lib/holdfast"}}
    assert Run(monkeypatch, SECOND).start() is None
    assert json.loads(used.files["/mnt/persist/var/lib/holdfast/partition.json"])["run_id"] == SECOND


@pytest.mark.parametrize("key", ["attribute", "hostName"])
def test_name_of_the_attribute_or_of_the_configuration(
    used: FakeMachine, desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str
) -> None:
    used.shows("final", hostname="barn", system_mark="")
    if key == "hostName":
        desk.configuration = desk.configuration | {"host_name": "barn"}
    else:
        hosts = tmp_path / "hosts.toml"
        hosts.write_text(f'{hosts.read_text()}attribute = "barn"\n')

        def renamed(argv: list[str], **told: Any) -> CommandResult:
            return desk.run_local([word.replace('"barn"', '"cottage"') for word in argv], **told)

        monkeypatch.setattr(process, "run_local", renamed)
    ended = Run(monkeypatch, SECOND).start()
    assert ended is not None
    assert ended.name == INSTALLED_ALREADY
    assert used.story == []


@pytest.mark.parametrize("reinstall", [True, False])
@pytest.mark.parametrize("system", ["final", "trial"])
def test_system_of_the_plan_is_finished_and_verified(
    used: FakeMachine, server: Server, monkeypatch: pytest.MonkeyPatch, system: str, reinstall: bool
) -> None:
    used.toplevel = NEW
    used.is_in(system)
    assert Run(monkeypatch, SECOND, reinstall=reinstall).start() is None
    assert WIPED not in used.story
    assert server.forms == []
    assert (used.runs, used.disk) == ("final", "final")


# Stages after the installer was started.


def fails_once(machine: FakeMachine, program: str, argument: str = "") -> None:
    """Let a program, with this argument if one is given, fail once; the next time it works."""
    works = machine._handlers[program]

    def fail(command: Command) -> Done | str | None:
        if argument and argument not in command.args:
            return works(command)
        machine.on(program, works)
        return Done(stderr="made to fail", status=1)

    machine.on(program, fail)


@pytest.mark.parametrize("program", [BEFORE_DISKO, "disko", "nixos-install", "load-final.sh"])
def test_retry_of_a_reinstall_continues(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, server: Server, program: str
) -> None:
    run = Run(monkeypatch, SECOND, reinstall=True)
    fails_once(used, program)
    with pytest.raises(HoldfastError):
        run.start()
    assert used.runs == "installer"
    assert run.start() is None
    assert (used.runs, used.toplevel, used.story.count(WIPED)) == ("final", NEW, 1)
    assert all("Reinstall cottage" in form for form in server.forms)


def test_fresh_run_after_a_failed_reinstall_needs_the_word_again(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    fails_once(used, BEFORE_DISKO)
    with pytest.raises(HoldfastError):
        Run(monkeypatch, FIRST, reinstall=True).start()
    server.over[FIRST] = True
    ended = Run(monkeypatch, SECOND).start()
    assert ended is not None
    assert ended.name == INSTALLED_ALREADY
    assert WIPED not in used.story
    asked = len(server.forms)
    assert Run(monkeypatch, SECOND, reinstall=True).start() is None
    assert len(server.forms) == asked + 1
    assert used.story.count(WIPED) == 1


def test_run_that_has_lost_its_results_keeps_its_word(used: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry on a worker that has none of the first one's files."""
    fails_once(used, BEFORE_DISKO)
    with pytest.raises(HoldfastError):
        Run(monkeypatch, SECOND, reinstall=True).start()
    assert Run(monkeypatch, SECOND, reinstall=True).start() is None
    assert used.story.count(WIPED) == 1


@pytest.mark.parametrize("program", ["nixos-install", "load-final.sh"])
@pytest.mark.parametrize("power", [True, False])
def test_formatted_disks_need_no_word(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, server: Server, program: str, power: bool
) -> None:
    """After `partition` of this plan nothing is left to protect, also not after a power cut: the standby knows it."""
    fails_once(used, program)
    with pytest.raises(HoldfastError):
        Run(monkeypatch, FIRST, reinstall=True).start()
    if power:
        used.reset()
        used.clock.sleep(60)
    assert (used.runs, MARK_IN_RAM in used.files) == ("installer", True)
    asked = len(server.forms)
    assert Run(monkeypatch, SECOND).start() is None
    assert (used.runs, used.toplevel, used.story.count(WIPED), len(server.forms)) == ("final", NEW, 1, asked)


def test_dead_man_takes_a_reinstall_back_and_retry_begins_again(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(monkeypatch, SECOND, reinstall=True)
    fails_once(used, BEFORE_DISKO)
    with pytest.raises(HoldfastError):
        run.start()
    used.clock.sleep(2000)
    assert (used.runs, used.toplevel) == ("final", OLD)
    fresh = Run(monkeypatch, FIRST).start()
    assert fresh is not None
    assert fresh.name == INSTALLED_ALREADY
    assert run.start() is None
    assert (used.runs, used.toplevel, used.story.count(WIPED)) == ("final", NEW, 1)


# A machine that comes into use behind a plan's back.


@pytest.mark.parametrize("reinstall", [True, False])
@pytest.mark.parametrize("installer", [True, False])
def test_kexec_starts_nothing_on_a_machine_that_came_into_use(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, reinstall: bool, installer: bool
) -> None:
    used.is_in("origin")

    def changes() -> None:
        comes_into_use(used)
        if installer:
            rehearsed_by(used, FIRST)

    used.after("read-state.sh", changes)
    run = Run(monkeypatch, SECOND, reinstall=reinstall)
    with pytest.raises(HoldfastError):  # the link broke, in `preserve`
        run.start()
    with pytest.raises(TargetRefused, match=r"is in use \(.*this run.s plan does not say that it is reinstalled"):
        run.start()
    assert "installer started by kexec" not in used.story
    assert WIPED not in used.story


@pytest.mark.parametrize("first", [OLD, NEW])
def test_word_is_worth_nothing_where_nobody_was_asked(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, server: Server, first: str
) -> None:
    """While approvals were asked for it ran the system of the plan, so there was nothing to approve; then no longer."""

    def switch(toplevel: str) -> Callable[[], None]:
        return lambda: setattr(used, "toplevel", toplevel)

    # As seen by preflight, preserve, approve and kexec.
    used.before("facts.sh", *map(switch, (first, first, NEW, OLD)))
    with pytest.raises(TargetRefused, match=r"is in use \(.*no person has approved"):
        Run(monkeypatch, SECOND, reinstall=True).start()
    assert server.forms == []
    assert WIPED not in used.story
    assert "installer started by kexec" not in used.story


def test_retry_joins_a_reinstall_whose_formatting_is_not_marked_yet(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    """The worker died between disko and the mark: nothing is left to protect, and nobody is asked again."""
    run = Run(monkeypatch, SECOND, reinstall=True)
    fails_once(used, "write-file.sh", MARK_ON_DISK)
    with pytest.raises(HoldfastError):
        run.start()
    assert (used.story.count(WIPED), MARK_IN_RAM in used.files) == (1, False)
    assert run.start() is None
    assert (used.runs, used.toplevel, used.story.count(WIPED), len(server.forms)) == ("final", NEW, 1, 1)


def test_retry_long_after_formatting_touches_no_other_install(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results say that the disks are formatted; meanwhile another run has installed the machine."""
    used.is_in("origin")
    run = Run(monkeypatch, SECOND)
    fails_once(used, "nixos-install")
    with pytest.raises(HoldfastError):
        run.start()
    assert used.story.count(WIPED) == 1
    comes_into_use(used)
    rehearsed_by(used, FIRST)
    told = len(used.story)
    with pytest.raises(TargetRefused, match="is in use"):
        run.start()
    assert used.story[told:] == []


def test_rehearsal_of_a_machine_in_use_goes_back(used: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Run(monkeypatch, SECOND, "rehearse").start() is None
    assert (used.runs, used.toplevel, used.disk) == ("final", OLD, "final")
    assert "installer boots" in used.story
    assert WIPED not in used.story


# The standard way: a stock installer says nothing by itself.


@pytest.mark.parametrize("was_used", [True, False])
def test_stock_installer_is_told_what_ran_before(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path, was_used: bool
) -> None:
    image = write(tmp_path / "stock.tar", whole(), "w")
    monkeypatch.setenv("HOLDFAST_STANDARD_IMAGE", str(image))
    if not was_used:
        used.is_in("origin")
    used.shows("installer", tailscale_status="", tailscaled_pid="", tailscale_installed="")
    fails_once(used, "disko")
    with pytest.raises(HoldfastError):
        Run(monkeypatch, FIRST, way="standard", reinstall=was_used).start()
    server.over[FIRST] = True
    assert json.loads(used.files[INSTALLER_MARK])["origin_mark"] == ("yes" if was_used else "no")
    asked = len(server.forms)
    ended = Run(monkeypatch, SECOND, way="standard").start()
    if was_used:
        assert ended is not None
        assert ended.name == INSTALLED_ALREADY
        assert WIPED not in used.story
        assert Run(monkeypatch, SECOND, way="standard", reinstall=True).start() is None
        assert len(server.forms) == asked + 1
    assert used.story.count(WIPED) == 1


def test_installer_of_somebody_else_needs_a_person(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path
) -> None:
    image = write(tmp_path / "stock.tar", whole(), "w")
    monkeypatch.setenv("HOLDFAST_STANDARD_IMAGE", str(image))
    asks_nobody_whatever_it_says(tmp_path)
    hosts = tmp_path / "hosts.toml"
    hosts.write_text(f"{hosts.read_text()}keep.tailscale_state = false\n")
    used.is_in("installer")
    del used.files[INSTALLER_MARK]
    server.typed = None
    with pytest.raises(TargetRefused, match="does not say which system ran before it"):
        Run(monkeypatch, SECOND, way="standard").start()
    assert used.story == []


@pytest.mark.parametrize("way", ["standard", "tailscale"])
@pytest.mark.parametrize("formatted", [True, False])
def test_retry_goes_on_in_no_installer_of_somebody_else(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path, way: str, formatted: bool
) -> None:
    """Meanwhile somebody installed the machine, and looks at it from a USB stick: the plan knows of neither."""
    image = write(tmp_path / "stock.tar", whole(), "w")
    monkeypatch.setenv("HOLDFAST_STANDARD_IMAGE", str(image))
    used.is_in("origin")
    run = Run(monkeypatch, SECOND, way=way)
    if formatted:
        fails_once(used, "nixos-install")
    else:
        used.instead["installer"] = ""
    with pytest.raises(HoldfastError):
        run.start()
    comes_into_use(used)
    used.is_in("installer")
    for mark in (INSTALLER_MARK, MARK_IN_RAM):
        used.files.pop(mark, None)
    told = len(used.story)
    with pytest.raises(TargetRefused, match=r"does not say which system ran before it.*Start a new run"):
        run.start()
    assert used.story[told:] == []
    assert server.forms == []


def test_retry_continues_in_an_installer_of_its_own_that_is_older(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older image does not say what ran before it, but which run started it."""
    used.is_in("origin")

    def hand_over(run_id: str, dead_man_s: float, **_: bool) -> None:
        used.handed, used.before_it = (run_id, dead_man_s), {}

    monkeypatch.setattr(used, "hand_over", hand_over)
    run = Run(monkeypatch, SECOND)
    fails_once(used, BEFORE_DISKO)
    with pytest.raises(HoldfastError):
        run.start()
    assert "origin_mark" not in json.loads(used.files[INSTALLER_MARK])
    assert run.start() is None
    assert used.story.count(WIPED) == 1


@pytest.mark.parametrize("flow", ["install", "rehearse"])
@pytest.mark.parametrize(
    "mark", [None, '{"image_id": "stock", "run_id": "FIRST", "origin_mark": "no", "state": "none"}']
)
def test_tailscale_way_begins_in_no_installer_of_somebody_else(
    used: FakeMachine, monkeypatch: pytest.MonkeyPatch, server: Server, flow: str, mark: str | None
) -> None:
    """It would end in `reconnect`, after a person was asked and everything was built."""
    used.is_in("installer")
    used.files.pop(INSTALLER_MARK)
    if mark:
        used.files[INSTALLER_MARK] = mark.replace("FIRST", FIRST).encode()
    with pytest.raises(TargetRefused, match=r"installer that is not Holdfast.s.*just install cottage ADDRESS"):
        Run(monkeypatch, SECOND, flow).start()
    assert (used.story, server.forms) == ([], [])


def test_inventory_cannot_say_it(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.toml"
    hosts.write_text(f"{hosts.read_text()}reinstall = true\n")
    with pytest.raises(HoldfastError, match="unknown key 'reinstall'"):
        chosen_host(hosts, "cottage")
