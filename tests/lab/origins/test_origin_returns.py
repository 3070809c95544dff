"""Whether the origin comes back, on real ones: plain, with a tailscaled that nothing starts at boot, and with LUKS."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab import storage
from lab.flow_runs import ended, report_of, start
from lab.operator import PROJECT, Operator
from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.origins]

BOOT_ID = ["cat", "/proc/sys/kernel/random/boot_id"]


# For a rehearsal with one boot more than others have.
RUN_S = 1800


@pytest.fixture
def origin(lab: Lab) -> Iterator[Lab]:
    """The machine in its origin, as Debian installs it; nothing of a test stays."""
    lab.start_over()
    yield lab
    lab.start_over()


def plan_of(operator: Operator) -> str:
    """Return what `just plan` shows."""
    command = [sys.executable, "-m", "deployments.plan", "cottage"]
    return subprocess.run(
        command, env=operator.env, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True, timeout=300
    ).stdout


def refused(lab: Lab, operator: Operator) -> str:
    """Return how a rehearsal is refused before anything is changed."""
    boot_id = lab.ssh_local(BOOT_ID)
    run_id = start(operator, "rehearse/cottage", origin=True)
    run = ended(operator, run_id)
    assert run["state"]["type"] == "FAILED"
    assert [phase["name"] for phase in report_of(operator, run_id)["phases"]] == ["preflight"]
    assert lab.ssh_local(BOOT_ID) == boot_id
    return str(run["state"]["message"])


def test_origin_is_rebooted_and_proved_before_the_installer_starts(origin: Lab, operator: Operator) -> None:
    boot_id = origin.ssh_local(BOOT_ID).strip()
    assert "proved on" not in plan_of(operator)
    run_id = start(operator, "rehearse/cottage", origin=True)
    run = ended(operator, run_id, RUN_S)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    report = report_of(operator, run_id)
    boots = report["boot_id"]
    assert list(boots) == ["origin", "proved", "installer", "returned"]
    assert len(set(boots.values())) == 4
    assert (boots["origin"], boots["returned"]) == (boot_id, origin.ssh_local(BOOT_ID).strip())
    assert len({str(node) for node in report["identity"].values()}) == 1
    assert all(report["away_s"][name] > 0 for name in ("origin", "kexec", "reboot"))
    assert [phase["name"] for phase in report["phases"]][-4:] == ["prove_origin", "kexec", "reconnect", "go_back"]
    assert "proved on" in plan_of(operator)


def test_tailscaled_that_nothing_starts_at_boot_is_refused(origin: Lab, operator: Operator) -> None:
    origin.ssh_local(["systemctl", "disable", "tailscaled"])
    said = refused(origin, operator)
    assert "systemctl enable tailscaled" in said
    assert "origin-may-not-return" in said
    origin.ssh_local(["systemctl", "enable", "tailscaled"])
    assert "| strands |" not in plan_of(operator)


def test_disk_that_asks_for_a_passphrase_is_refused(origin: Lab, operator: Operator) -> None:
    storage.encrypt(origin, "only a person knows it", "/var/lib/vault")
    said = refused(origin, operator)
    assert "/var/lib/vault" in said
    assert "passphrase" in said
    assert "only a person knows it" not in said
