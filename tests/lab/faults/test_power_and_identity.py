"""The power fails in every phase; another host key answers; the Tailscale state is lost and given back."""

import subprocess
import sys
import time
from typing import Final

import pytest

from tests.lab.faults.journey import FINAL, INSTALLER, ORIGIN, Journey, local_way

pytestmark = [pytest.mark.lab, pytest.mark.faults]

POWER_CUT: Final = "power cut"
RESTORED_AFTER_S: Final = 45
# Puts the old key back by itself, since nobody can log in meanwhile. Prints the new key's fingerprint.
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
# The operator must have heard nothing of the node for three minutes, and the control server must show it as offline.
OFFLINE_WITHIN_S: Final = 420
_LOSE: Final = "systemctl stop tailscaled; rm -rf /var/lib/tailscale; systemctl start tailscaled"


def _host_key_changes(journey: Journey, phase: str, stage: str, expected: str) -> None:
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
        seen.recovery = "refused, both keys named; key back, Retry"
        journey.retry()
        journey.reach(phase)


def _power_fails(journey: Journey, phase: str, most_s: float = 2) -> None:
    journey.reach(phase)
    journey.some_seconds(most_s)
    journey.thrown(POWER_CUT, phase, journey.lab.power_cycle)


def _power_fails_in_the_installer(journey: Journey, phase: str) -> None:
    journey.reach(phase)
    with journey.fault(POWER_CUT, phase) as seen:
        journey.lab.power_cycle()
        seen.where = journey.where()
        assert seen.where == ORIGIN
        journey.ended("FAILED")
        journey.retry()
        journey.past(phase)
        seen.recovery = "Retry"


def _power_fails_between_disko_and_boot_loader(journey: Journey) -> None:
    journey.reach("install")
    journey.some_seconds(10)
    with journey.fault(f"{POWER_CUT}, the new disk not bootable yet", "install") as seen:
        journey.lab.power_cycle()
        seen.where = journey.where()
        assert seen.where == INSTALLER, "the standby did not boot"
        seen.recovery = journey.go_on("install")


def _restore(journey: Journey) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments.vault", "restore", "cottage"]
    return subprocess.run(command, env=journey.operator.env, capture_output=True, text=True, timeout=400, check=False)


def _state_is_lost(journey: Journey) -> None:
    with local_way(journey.lab) as address:
        journey.inventory("", local=address)
        already = _restore(journey)
        assert (already.returncode, "there is nothing to restore" in already.stdout) == (0, True), already.stderr
        with journey.fault("the installed machine loses its Tailscale state", "verify") as seen:
            journey.on_machine(_LOSE)
            refused = _restore(journey)
            assert refused.returncode == 2, refused.stdout
            assert "vault: the node" in refused.stderr, refused.stderr
            ends = time.monotonic() + OFFLINE_WITHIN_S
            while (done := _restore(journey)).returncode and time.monotonic() < ends:
                time.sleep(10)
            assert done.returncode == 0, done.stderr
            assert "cottage is nodekey:" in done.stdout
            seen.where = journey.where()
            assert seen.where == FINAL
            seen.recovery = "just vault restore"
    journey.proved()


def test_power_and_identity_are_lost(journey: Journey) -> None:
    key = journey.on_machine("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d ' ' -f 2")
    journey.start()
    _power_fails(journey, "preflight")
    _power_fails(journey, "build")
    _host_key_changes(journey, "preserve", ORIGIN, key)
    _power_fails(journey, "preserve")
    _power_fails(journey, "kexec")
    _host_key_changes(journey, "reconnect", INSTALLER, key)
    _power_fails_in_the_installer(journey, "reconnect")
    _power_fails_in_the_installer(journey, "partition")
    _power_fails_between_disko_and_boot_loader(journey)
    _power_fails(journey, "restore", 1)
    _host_key_changes(journey, "trial", FINAL, key)
    _power_fails(journey, "trial", 1)
    _power_fails(journey, "reboot", 1)
    _power_fails(journey, "verify", 1)
    journey.finish()
    assert journey.on_machine("ls -d /boot/holdfast /.holdfast-standby 2>/dev/null || true") == "", (
        "the standby is still there"
    )
    _state_is_lost(journey)
