"""A step to the new system fails: the image's upload, disko, the closure, nixos-install, the system's first start."""

from contextlib import AbstractContextManager, ExitStack
from typing import Final

import pytest

from tests.lab.faults.journey import INSTALLER, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

_PART: Final = "/var/lib/holdfast/*.part"
_DAMAGE: Final = f"for part in {_PART}; do printf wrong | dd of=$part bs=1 seek=4096 conv=notrunc; done"
_BREAK: Final = """
set -e
program=$(command -v {name}); mv "$program" "$program.sound"
printf '#!/bin/sh\\necho {name}: made to fail >&2\\nexit 1\\n' >"$program"; chmod 755 "$program"
"""
_MEND: Final = 'program=$(command -v {name}); mv "$program.sound" "$program"'
# ext4 reserves blocks for root, and everything here runs as root: none are reserved, so that the disk is really full.
_FILL: Final = """
set -e
tune2fs -m 0 "$(findmnt -n -o SOURCE /mnt)" >/dev/null
free=$(df -Pk /mnt | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4)
fallocate -l "$((free - 65536))K" /mnt/fill
dd if=/dev/zero of=/mnt/fill.rest bs=1M 2>/dev/null || true
"""
# Changes the mode of a program in the store of the new root.
_CHANGE: Final = """
set -e
mountpoint -q /mnt || {{ mount LABEL=nixos /mnt; mounted=1; }}
find /mnt/nix/store -name {name} -type f -exec chmod {change} {{}} +
sync
[ -z "${{mounted-}}" ] || umount /mnt
"""


def _broken(journey: Journey, name: str) -> AbstractContextManager[None]:
    """Let a program of the machine fail while the body runs."""
    return journey.planted(_BREAK.format(name=name), _MEND.format(name=name))


def _unusable(journey: Journey, name: str) -> AbstractContextManager[None]:
    """Let a program of the new system be no program while the body runs."""
    return journey.planted(_CHANGE.format(change="a-x", name=name), _CHANGE.format(change="a+x", name=name))


def _upload_is_damaged(journey: Journey) -> None:
    def damage_and_cut() -> None:
        journey.on_machine(_DAMAGE)
        journey.cut(20)

    journey.reach("kexec")
    journey.until_on_machine("a part of the image", f"test $(cat {_PART} | wc -c) -gt 8000000")
    journey.thrown("upload cut, and what had arrived damaged", "kexec", damage_and_cut)


def _disko_fails(journey: Journey) -> None:
    journey.reach("reconnect")
    with ExitStack() as planted:
        with journey.held():
            assert journey.until_where(INSTALLER) == INSTALLER
            planted.enter_context(_broken(journey, "mkfs.ext4"))
        with journey.fault("disko fails half-way", "partition") as seen:
            assert "made to fail" in journey.ended("FAILED")
            seen.where = journey.where()
            planted.close()
            journey.retry()
            journey.reach("install")
            seen.recovery = "Retry"


def _install_fails(journey: Journey) -> None:
    with ExitStack() as planted:
        with journey.fault("disk full", "install") as seen:
            with journey.held():
                planted.enter_context(journey.planted(_FILL, "rm -f /mnt/fill /mnt/fill.rest"))
            message = journey.ended("FAILED")
            assert "space" in message.lower(), message
            seen.where = journey.where()
            planted.close()
            planted.enter_context(_broken(journey, "nixos-install"))
            journey.retry()
            seen.recovery = "Retry"
        with journey.fault("closure copy cut for 20 s", "install") as seen:
            journey.until_on_machine("a part of the closure", "ls /mnt/nix/store | grep -q .")
            journey.cut(20)
            seen.where = journey.where()
            journey.until_on_machine(
                "nixos-install to have begun", "systemctl list-units --all --plain | grep -q holdfast-install"
            )
            seen.recovery = "by itself"
        with journey.fault("nixos-install fails", "install") as seen:
            assert "made to fail" in journey.ended("FAILED")
            seen.where = journey.where()
            planted.close()
            journey.retry()
            journey.past("install")
            seen.recovery = "Retry"


def _does_not_come_up(journey: Journey, name: str, why: str) -> None:
    """Check that the machine comes back in the installer by itself, on its tailnet."""
    with journey.fault(name, "trial") as seen:
        message = journey.ended("FAILED")
        assert "did not come up" in message, message
        seen.where = journey.where()
        assert seen.where == INSTALLER
        seen.recovery = f"by itself ({why}), Retry"


def test_new_system_fails_at_each_step(journey: Journey) -> None:
    journey.deadlines(reboot_return_s=150)
    journey.start()
    _upload_is_damaged(journey)
    _disko_fails(journey)
    installer = journey.on_machine("cat /proc/sys/kernel/random/boot_id")
    _install_fails(journey)
    with ExitStack() as planted:
        with journey.held():
            planted.enter_context(_unusable(journey, "init"))
        _does_not_come_up(journey, "the new system does not boot", "panic, standby")
    with _unusable(journey, "tailscaled"):
        journey.retry()
        _does_not_come_up(journey, "the new system boots without tailscale", "nobody came, standby")
    journey.retry()
    report = journey.finish()
    assert {phase["name"]: phase["attempts"] for phase in report["phases"]}["trial"] == 3
    assert report["boot_id"]["installer"] == installer, "the disks were formatted in another boot"
    assert journey.on_machine("ls -d /boot/holdfast /.holdfast-standby 2>/dev/null || true") == "", (
        "the standby is still there"
    )
