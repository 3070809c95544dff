"""Which watchdog a machine has and what it covers: from /sys to the row of the plan."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import PROJECT, script
from holdfast.facts.watchdog import Watchdog, WatchdogFacts
from holdfast.facts.way_back import parse_way_back
from holdfast.inventory.host import Way
from holdfast.plan.way_back.row import Verdict
from holdfast.plan.way_back.watchdog import IMAGE_DRIVERS, watchdog_rows
from tests.unit.cases import host, way_back_answer
from tests.unit.conftest import Userland
from tests.unit.watchdogs import Watchdogs

TOOLS = ("cat", "head", "tr", "sed", "readlink", "od", "uname", "date", "timeout", "grep", "cut", "tail", "sort", "ls")
HARDWARE = Watchdog(device="watchdog0", driver="iTCO_wdt", timeout_s=30, name="iTCO_wdt")
READY = WatchdogFacts(devices=(HARDWARE,), hop_driver="iTCO_wdt")


@pytest.fixture
def machine(tmp_path: Path) -> Watchdogs:
    return Watchdogs(tmp_path / "root")


def look(machine: Watchdogs, userland: Userland) -> WatchdogFacts:
    """Run way-back.sh on the machine."""
    (machine.root / "proc/1/fd").mkdir(parents=True, exist_ok=True)
    (machine.root / "proc/1/comm").write_text("systemd\n")
    tools = machine.root.parent / "modules"
    tools.mkdir()
    for name in ("modprobe", "rmmod"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    done = subprocess.run(
        [*userland.shell, "-s"],
        env={"PATH": f"{tools}:{userland.path}", "HOLDFAST_ROOT": str(machine.root)},
        input=script("origin/way-back.sh"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return parse_way_back(done.stdout, "cottage").watchdog


def test_a_machine_without_watchdog(machine: Watchdogs, userland: Userland) -> None:
    machine.root.mkdir()
    assert look(machine, userland) == WatchdogFacts(hop_obstacle="there is no hardware watchdog")


def test_a_watchdog_that_nobody_uses_can_be_armed(machine: Watchdogs, userland: Userland) -> None:
    machine.add("i6300esb", identity="i6300ESB timer", max_timeout="2046")
    seen = look(machine, userland)
    assert seen.devices == (
        Watchdog(device="watchdog0", driver="i6300esb", timeout_s=30, longest_s=2046, name="i6300ESB timer"),
    )
    assert (seen.hop_driver, seen.hop_obstacle, seen.kept_running) == ("i6300esb", "", False)


def test_a_driver_that_does_not_tell_its_device_is_known_by_its_name(machine: Watchdogs, userland: Userland) -> None:
    """QEMU's, in Debian's kernels 6.1 and 6.12."""
    machine.told = False
    machine.add("i6300esb", identity="i6300ESB timer")
    seen = look(machine, userland)
    assert (seen.devices[0].driver, seen.hop_driver) == ("i6300esb", "i6300esb")


def test_who_feeds_a_watchdog(machine: Watchdogs, userland: Userland) -> None:
    machine.uses, machine.core = {"sp5100_tco": 1}, "0"
    machine.add("sp5100_tco", state="active", nowayout="1", timeout="20")
    (machine.root / "proc/1/fd").mkdir(parents=True)
    (machine.root / "proc/1/fd/7").symlink_to("/dev/watchdog0")
    seen = look(machine, userland)
    assert seen.devices[0].holder == "systemd"
    assert (seen.devices[0].active, seen.devices[0].nowayout, seen.devices[0].timeout_s) == (True, True, 20)
    assert (seen.hop_driver, seen.kept_running) == ("", True)


@pytest.mark.parametrize(
    ("driver", "machine_is", "files", "why"),
    [
        ("iTCO_wdt", {}, {"state": "active"}, "in use"),
        ("iTCO_wdt", {}, {"nowayout": "1"}, "nowayout"),
        ("iTCO_wdt", {"uses": {"iTCO_wdt": 1}}, {}, "its driver is in use"),
        ("iTCO_wdt", {"uses": {"iTCO_wdt": None}}, {}, "its driver is built into the kernel"),
        ("iTCO_wdt", {"core": None}, {}, "decides by itself"),
        ("iTCO_wdt", {"module": False}, {}, "built in"),
        ("bcm2835_wdt", {}, {}, "count for minutes"),
        ("wdat_wdt", {}, {}, "count for minutes"),
        ("", {}, {"identity": "Software Watchdog"}, "count for minutes"),
    ],
)
def test_why_a_watchdog_cannot_be_armed(
    machine: Watchdogs,
    userland: Userland,
    driver: str,
    machine_is: dict[str, object],
    files: dict[str, str],
    why: str,
) -> None:
    for name, value in machine_is.items():
        setattr(machine, name, value)
    machine.add(driver, **files)
    seen = look(machine, userland)
    assert why in seen.hop_obstacle
    assert not seen.hop_driver


def test_a_core_that_another_driver_uses_is_left_alone(machine: Watchdogs, userland: Userland) -> None:
    machine.uses = {"mei_wdt": 1}
    machine.add("iTCO_wdt")
    machine.add("mei_wdt", state="active")
    assert "mei_wdt uses the watchdog core" in look(machine, userland).hop_obstacle


def test_a_built_in_core_that_keeps_them_running_will_do(machine: Watchdogs, userland: Userland) -> None:
    machine.module, machine.core = False, "0"
    machine.add("wdat_wdt")
    machine.add("iTCO_wdt")
    assert look(machine, userland).hop_driver == "iTCO_wdt"


@pytest.mark.parametrize(
    "lines",
    ["watchdog0", "", "\n\n", "watchdog0 - - - - - - \n", "a b c d e f g h i j\n" * 99, "x \u2028 <b>|`\x07 1 2 3 4 5"],
)
def test_lines_of_any_shape(lines: str) -> None:
    seen = parse_way_back(way_back_answer(watchdogs=lines, watchdog_hop="maybe <x>"), "cottage").watchdog
    assert len(seen.devices) <= 64
    assert (seen.hop_driver, seen.hop_obstacle) == ("", "")
    assert json.loads(seen.model_dump_json())["kept_running"] is False


@pytest.mark.parametrize(
    ("facts", "way", "seen", "means"),
    [
        (WatchdogFacts(), Way.TAILSCALE, "no hardware watchdog", "power cycle"),
        (
            WatchdogFacts(devices=(Watchdog(device="watchdog0", driver="", name="Software Watchdog"),)),
            Way.TAILSCALE,
            "no hardware watchdog",
            "power cycle",
        ),
        (READY, Way.TAILSCALE, "iTCO_wdt", "if the installer's kernel hangs before that"),
        (
            READY.model_copy(update={"hop_driver": "", "hop_obstacle": "it is in use"}),
            Way.TAILSCALE,
            "iTCO_wdt",
            "nothing resets it, because it is in use",
        ),
        (READY, Way.STANDARD, "iTCO_wdt", "the standard way does not use it"),
        (
            WatchdogFacts(devices=(HARDWARE.model_copy(update={"driver": "it87_wdt"}),)),
            Way.TAILSCALE,
            "it87_wdt",
            "the image has no driver for it",
        ),
    ],
)
def test_the_row(facts: WatchdogFacts, way: Way, seen: str, means: str) -> None:
    (row,) = watchdog_rows(facts, host(way=way))
    assert row.verdict is Verdict.FINE
    assert seen in row.seen
    assert means in row.means


@pytest.mark.parametrize(
    ("watchdog", "way", "warned"),
    [
        ({}, Way.TAILSCALE, False),
        ({"timeout_s": 600}, Way.TAILSCALE, False),
        ({"timeout_s": 10}, Way.TAILSCALE, True),
        ({"timeout_s": 600}, Way.STANDARD, True),
        ({"timeout_s": 600, "driver": "it87_wdt"}, Way.TAILSCALE, True),
        ({"timeout_s": 10, "active": False}, Way.TAILSCALE, False),
    ],
)
def test_a_watchdog_that_runs_on_through_kexec(watchdog: dict[str, object], way: Way, warned: bool) -> None:
    device = HARDWARE.model_copy(update={"active": True, "holder": "systemd", "timeout_s": 60} | watchdog)
    rows = list(watchdog_rows(WatchdogFacts(devices=(device,), kept_running=True), host(way=way)))
    assert (rows[0].verdict is Verdict.UNPROVED) is warned
    stopped = list(watchdog_rows(WatchdogFacts(devices=(device,)), host(way=way)))
    assert [row.verdict for row in stopped] == [Verdict.FINE]


def test_the_plan_knows_the_drivers_of_the_image() -> None:
    listed = (PROJECT / "nix/kexec-tailscale/watchdog-drivers.nix").read_text()
    assert set(re.findall(r'"(\w+)"', listed)) == IMAGE_DRIVERS
