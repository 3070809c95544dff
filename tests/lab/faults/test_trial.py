"""The final system does not come up on its first start."""

from typing import Final

import pytest

from tests.lab.faults.journey import INSTALLER, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

# $1 `a-x` or `a+x`, $2 the name of a file in the store of the new root.
_CHANGE: Final = """
set -e
mountpoint -q /mnt || {{ mount LABEL=nixos /mnt; mounted=1; }}
find /mnt/nix/store -name {name} -type f -exec chmod {change} {{}} +
sync
[ -z "${{mounted-}}" ] || umount /mnt
"""


def _does_not_come_up(journey: Journey, name: str, why: str) -> None:
    """See that the machine comes back in the installer by itself, on its tailnet, and mend what was broken."""
    with journey.fault(name, "trial") as seen:
        message = journey.ended("FAILED", deadline_s=600)
        assert "did not come up" in message, message
        seen.where = journey.where()
        assert seen.where == INSTALLER
        seen.recovery = f"by itself ({why}), Retry"


def test_final_system_does_not_come_up(journey: Journey) -> None:
    journey.deadlines(reboot_return_s=150)
    journey.start()
    journey.reach("restore")
    journey.on_machine(_CHANGE.format(name="init", change="a-x"))
    _does_not_come_up(journey, "the final system does not boot", "panic, standby")
    journey.on_machine(_CHANGE.format(name="init", change="a+x"))
    journey.on_machine(_CHANGE.format(name="tailscaled", change="a-x"))
    journey.retry()
    _does_not_come_up(journey, "the final system boots without tailscale", "nobody came, standby")
    journey.on_machine(_CHANGE.format(name="tailscaled", change="a+x"))
    journey.retry()
    report = journey.finish()
    assert {phase["name"]: phase["attempts"] for phase in report["phases"]}["trial"] == 3
    assert journey.on_machine("ls /boot/holdfast 2>/dev/null || true") == "", "the standby is still there"
