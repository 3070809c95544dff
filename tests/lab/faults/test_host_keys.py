"""Another SSH host key answers than the one that is believed."""

from typing import Final

import pytest

from tests.lab.faults.journey import FINAL, INSTALLER, ORIGIN, Journey

pytestmark = [pytest.mark.lab, pytest.mark.faults]

RESTORED_AFTER_S: Final = 45
# It mends itself: with another key nobody can get in. Prints the new key's fingerprint.
_CHANGE: Final = f"""
set -e
cd /etc/ssh
mkdir -p /run/host-key
mv ssh_host_ed25519_key ssh_host_ed25519_key.pub /run/host-key/
ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key
restart='systemctl restart ssh.service || systemctl restart sshd.service'
systemd-run --quiet --on-active={RESTORED_AFTER_S} sh -c "cp /run/host-key/* /etc/ssh/; $restart"
systemd-run --quiet --on-active=1 sh -c "$restart"
ssh-keygen -lf ssh_host_ed25519_key.pub | cut -d ' ' -f 2
"""


def test_host_key_changes_at_each_stage(journey: Journey) -> None:
    expected = journey.on_machine("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d ' ' -f 2")
    journey.start()
    for phase, stage in (("preserve", ORIGIN), ("reconnect", INSTALLER), ("trial", FINAL)):
        journey.reach(phase)
        assert journey.until_where(stage) == stage
        with journey.fault("the SSH host key changes", phase) as seen:
            changed = journey.on_machine(_CHANGE)
            message = journey.ended("FAILED")
            assert f"answered with the host key ssh-ed25519 {changed}" in message, message
            assert expected in message, message
            journey.wait(RESTORED_AFTER_S)
            seen.where = journey.where()
            assert seen.where == stage
            journey.retry()
            journey.past(phase)
            seen.recovery = "refused, both keys named; key back, Retry"
    journey.finish()
