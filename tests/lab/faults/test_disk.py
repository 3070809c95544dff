"""What is done to the new disk fails half-way."""

import pytest

from tests.lab.faults.journey import INSTALLER, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

_BREAK = """
set -e
program=$(command -v {name}); mv "$program" "$program.sound"
printf '#!/bin/sh\\necho {name}: made to fail >&2\\nexit 1\\n' >"$program"; chmod 755 "$program"
"""
# Root may use the blocks that ext4 keeps back for it: none are kept back here.
_FILL = """
set -e
tune2fs -m 0 "$(findmnt -n -o SOURCE /mnt)" >/dev/null
free=$(df -Pk /mnt | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4)
fallocate -l "$((free - 65536))K" /mnt/fill
dd if=/dev/zero of=/mnt/fill.rest bs=1M 2>/dev/null || true
"""
_MEND = 'program=$(command -v {name}); mv "$program.sound" "$program"'


def test_disko_copy_and_install_fail(journey: Journey) -> None:
    journey.start()
    journey.reach("reconnect")
    assert journey.until_where(INSTALLER) == INSTALLER
    installer = journey.on_machine("cat /proc/sys/kernel/random/boot_id")
    journey.on_machine(_BREAK.format(name="mkfs.ext4"))
    with journey.fault("disko fails half-way", "partition") as seen:
        assert "made to fail" in journey.ended("FAILED")
        seen.where = journey.where()
        journey.on_machine(_MEND.format(name="mkfs.ext4"))
        journey.retry()
        journey.reach("install")
        seen.recovery = "Retry"
    with journey.fault("disk full", "install") as seen:
        journey.on_machine(_FILL)
        message = journey.ended("FAILED")
        assert "space" in message.lower(), message
        seen.where = journey.where()
        journey.on_machine("rm /mnt/fill /mnt/fill.rest")
        journey.on_machine(_BREAK.format(name="nixos-install"))
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
        journey.on_machine(_MEND.format(name="nixos-install"))
        journey.retry()
        journey.past("install")
        seen.recovery = "Retry"
    assert journey.finish()["boot_id"]["installer"] == installer, "the installer was started again"
