"""Short moments: the power fails while something is written, a program of the installer hangs, its PID 1 gives up."""

import time
from typing import Final

import pytest

from tests.lab.faults.journey import FINAL, INSTALLER, ORIGIN, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

# Seconds until a machine has booted, and until a phase is over: other labs compute, too.
WAIT_S: Final = 600
LONG_S: Final = 1800
# Until the installer's watch has heard tailscaled once, in seconds; it looks every 5 s.
WATCHED_S: Final = 30
ANSWERS: Final = "timeout 5 tailscale status --json | grep -q Running"
# Ends as soon as the kernel of the final system is half written.
BOOT_LOADER_IS_WRITTEN: Final = "until [ -e /boot/kernel.new ] || [ -e /boot/initrd.new ]; do :; done"


def _power_fails_in_kexec_run(journey: Journey) -> None:
    journey.reach("kexec", LONG_S)
    with journey.fault("power cut while kexec/run works", "kexec") as seen:
        journey.until_kexec_run(LONG_S)
        journey.lab.power_cycle()
        seen.where = journey.until_where(ORIGIN, WAIT_S)
        assert seen.where == ORIGIN
        seen.recovery = journey.go_on("kexec", LONG_S)


def _pid_1_gives_up(journey: Journey) -> None:
    with journey.fault("the installer's systemd crashes", "reconnect") as seen:
        with journey.held():
            assert journey.until_where(INSTALLER, WAIT_S) == INSTALLER
            journey.on_machine("(sleep 1; kill -SEGV 1) </dev/null >/dev/null 2>&1 &")
        seen.where = journey.until_where(ORIGIN, WAIT_S)
        assert "came back in its origin" in journey.ended("FAILED", deadline_s=LONG_S)
        journey.origin_is_clean()  # of what the power cut left in the image, too
        journey.retry()
        journey.reach("reconnect", LONG_S)
        seen.recovery = "by itself (systemd.crash_action), Retry"


def _tailscaled_hangs(journey: Journey) -> None:
    with journey.fault("tailscaled hangs in the installer", "reconnect") as seen:
        with journey.held():
            assert journey.until_where(INSTALLER, WAIT_S) == INSTALLER
            journey.until_on_machine("tailscaled's answer", ANSWERS, deadline_s=WAIT_S)
            journey.wait(WATCHED_S)
            journey.on_machine("kill -STOP $(pidof tailscaled)")
            began = time.monotonic()
            journey.until_on_machine("tailscaled's answer again", ANSWERS, deadline_s=WAIT_S)
            print(f"tailscaled answered again after {time.monotonic() - began:.0f} s")
        seen.where = journey.where(WAIT_S)
        seen.recovery = journey.go_on("reconnect", LONG_S)
        assert (seen.where, seen.recovery) == (INSTALLER, "by itself")


def _power_fails_while_the_boot_loader_is_written(journey: Journey) -> None:
    journey.reach("trial", LONG_S)
    with journey.fault("power cut while the boot loader is written", "trial") as seen:
        assert journey.until_where(FINAL, WAIT_S) == FINAL
        journey.on_machine(BOOT_LOADER_IS_WRITTEN)
        journey.lab.power_cycle()
        seen.where = journey.where(WAIT_S)
        # Before its configuration is there, the disk still boots the standby.
        assert seen.where in (INSTALLER, FINAL)
        seen.recovery = journey.go_on("trial", LONG_S)


def test_short_moments(journey: Journey) -> None:
    journey.start()
    _power_fails_in_kexec_run(journey)
    _pid_1_gives_up(journey)
    _tailscaled_hangs(journey)
    _power_fails_while_the_boot_loader_is_written(journey)
    journey.finish()
    assert journey.on_machine("ls /boot/holdfast 2>/dev/null || true") == "", "the standby is still there"
