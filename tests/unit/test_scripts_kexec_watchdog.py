"""kexec/run arms a hardware watchdog for the way into the installer, if it can be and if somebody will feed it."""

import time
from pathlib import Path

import pytest

from tests.unit.kexec_origin import KINDS, Origin, made_origin
from tests.unit.watchdogs import Watchdogs

# Takes a note of the file that is open as descriptor 8 when kexec leaves.
KEXEC = """#!/bin/sh
case $1 in
--load) while [ -e "$NOTES/hang" ]; do :; done ;;
-e) readlink "/proc/$$/fd/8" >"$NOTES/armed"; cat "$HOLDFAST_ROOT/dev/watchdog0" >"$NOTES/fed" 2>/dev/null ;;
esac
echo "$@" >>"$NOTES/kexec"
"""
RMMOD = """#!/bin/sh
echo "rmmod $1" >>"$NOTES/modules"
[ ! -e "$NOTES/stuck-$1" ] || exit 1
[ "$1" != watchdog ] || echo -1 >"$HOLDFAST_ROOT/sys/module/watchdog/parameters/stop_on_reboot"
"""
MODPROBE = """#!/bin/sh
echo "modprobe $*" >>"$NOTES/modules"
[ ! -e "$NOTES/refuses" ] || exit 1
case ${2-} in
stop_on_reboot=*) echo "${2#*=}" >"$HOLDFAST_ROOT/sys/module/watchdog/parameters/stop_on_reboot" ;;
*=*) [ -e "$NOTES/short" ] || echo "${2#*=}" >"$HOLDFAST_ROOT/sys/class/watchdog/watchdog0/timeout" ;;
esac
"""
PUT_BACK = ["rmmod iTCO_wdt", "rmmod watchdog", "modprobe iTCO_wdt"]


@pytest.fixture(params=KINDS)
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    origin = made_origin(request.param, tmp_path)
    for path, text in (
        (origin.kexec / "kexec", KEXEC),
        (origin.tools / "rmmod", RMMOD),
        (origin.tools / "modprobe", MODPROBE),
    ):
        path.unlink(missing_ok=True)  # a link to busybox
        path.write_text(text)
        path.chmod(0o755)
    (origin.root / "dev").mkdir()
    (origin.root / "dev/watchdog0").touch()
    return origin


@pytest.fixture
def watchdogs(origin: Origin) -> Watchdogs:
    return Watchdogs(origin.root)


def left(origin: Origin) -> tuple[str, str]:
    """Start the installer. Return what was open when kexec left, and what the script said of watchdogs."""
    status, out, errors = origin.run()
    assert status == 0
    assert "machine will boot" in out
    origin.wait_for("kexec", "-e")
    said = [line for line in errors.splitlines() if "no watchdog" in line or "reset this machine" in line]
    assert len(said) == 1
    return (origin.notes / "armed").read_text().strip(), said[0]


def modules(origin: Origin) -> list[str]:
    path = origin.notes / "modules"
    return path.read_text().splitlines() if path.exists() else []


def test_the_core_and_the_driver_are_loaded_again_and_the_watchdog_is_armed(
    origin: Origin, watchdogs: Watchdogs
) -> None:
    watchdogs.add("iTCO_wdt")
    watchdogs.add("mei_wdt")
    armed, said = left(origin)
    assert armed == str(origin.root / "dev/watchdog0")
    assert said == "kexec/run: iTCO_wdt will reset this machine if nobody feeds it within 300 s from kexec on"
    done = modules(origin)
    assert sorted(done[:2]) == ["rmmod iTCO_wdt", "rmmod mei_wdt"]
    assert done[2:5] == ["rmmod watchdog", "modprobe watchdog stop_on_reboot=0", "modprobe iTCO_wdt heartbeat=300"]
    assert set(done[5:]) == {"modprobe iTCO_wdt", "modprobe mei_wdt"}


def test_a_core_that_keeps_watchdogs_running_stays(origin: Origin, watchdogs: Watchdogs) -> None:
    watchdogs.core, watchdogs.module = "0", False
    watchdogs.add("hpwdt")
    assert left(origin)[0]
    assert modules(origin) == ["rmmod hpwdt", "modprobe hpwdt soft_margin=300", "modprobe hpwdt"]


def test_a_kexec_that_fails_stops_the_watchdog(origin: Origin, watchdogs: Watchdogs) -> None:
    watchdogs.add("iTCO_wdt")
    assert left(origin)[0]
    assert (origin.notes / "fed").read_text() == ""
    deadline = time.monotonic() + 20
    while not (stopped := (origin.root / "dev/watchdog0").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert stopped == "V"


@pytest.mark.parametrize(
    ("machine", "files", "why"),
    [
        ({}, {"state": "active"}, "it is in use"),
        ({}, {"nowayout": "1"}, "nothing could stop it again (nowayout)"),
        ({"module": False}, {}, "the kernel's watchdog core is built in, and stops it at kexec"),
        ({"uses": {"iTCO_wdt": 1}}, {}, "its driver is in use"),
    ],
)
def test_a_watchdog_that_is_not_free_is_left_alone(
    origin: Origin, watchdogs: Watchdogs, machine: dict[str, object], files: dict[str, str], why: str
) -> None:
    for name, value in machine.items():
        setattr(watchdogs, name, value)
    watchdogs.add("iTCO_wdt", **files)
    assert left(origin) == ("", f"kexec/run: no watchdog is armed for kexec: {why}")
    assert modules(origin) == []


def test_a_watchdog_that_the_image_does_not_feed_is_not_armed(origin: Origin, watchdogs: Watchdogs) -> None:
    watchdogs.add("sp5100_tco")
    assert left(origin) == ("", "kexec/run: no watchdog is armed for kexec: the image does not load sp5100_tco")
    assert modules(origin) == []


def test_a_machine_without_watchdog(origin: Origin) -> None:
    assert left(origin) == ("", "kexec/run: no watchdog is armed for kexec: there is no hardware watchdog")


@pytest.mark.parametrize("note", ["short", "stuck-watchdog", "stuck-iTCO_wdt", "refuses"])
def test_what_does_not_come_as_asked_is_put_back(origin: Origin, watchdogs: Watchdogs, note: str) -> None:
    watchdogs.add("iTCO_wdt")
    (origin.notes / note).touch()
    armed, said = left(origin)
    assert armed == ""
    assert said == "kexec/run: no watchdog is armed for kexec: iTCO_wdt could not be loaded with 300 s"
    assert modules(origin)[-3:] == PUT_BACK
    assert not (origin.root / "dev/watchdog0").read_text()


def test_a_watchdog_that_was_taken_meanwhile_does_not_stop_kexec(origin: Origin, watchdogs: Watchdogs) -> None:
    """It may be busy by then. That kexec comes counts for more."""
    watchdogs.add("iTCO_wdt")
    (origin.tools / "sleep").unlink(missing_ok=True)
    (origin.tools / "sleep").write_text(
        '#!/bin/sh\nrm "$HOLDFAST_ROOT/dev/watchdog0"; mkdir "$HOLDFAST_ROOT/dev/watchdog0"\n'
    )
    (origin.tools / "sleep").chmod(0o755)
    assert left(origin)[0] == ""


def test_a_start_that_fails_touches_no_watchdog(origin: Origin, watchdogs: Watchdogs) -> None:
    watchdogs.add("iTCO_wdt")
    (origin.kexec / "kexec").write_text("#!/bin/sh\nexit 1\n")
    assert origin.run()[0] == 1
    assert modules(origin) == []
