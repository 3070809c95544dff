"""A rehearsal, into the installer and back; and an install that demands one."""

import signal
import time
from collections.abc import Iterator

import pytest

from lab.flow_runs import ended, forget, phases_done, report_of, start
from lab.operator import Operator
from lab.runtime import Lab
from tests.lab import leaks

pytestmark = pytest.mark.lab

BEHIND_S = 3 * 365 * 86400
RTC = ["cat", "/sys/class/rtc/rtc0/since_epoch"]
CLOCK_MAY_DIFFER_S = 600
BOOT_ID = ["cat", "/proc/sys/kernel/random/boot_id"]


@pytest.fixture(scope="module")
def demanding(lab: Lab, operator: Operator) -> Iterator[Operator]:
    """The machine in its origin, whose hardware clock is three years behind, and an inventory that demands a rehearsal.

    Only the origin's own clock is right, as NTP leaves it.
    """
    lab.start_over(rtc=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - BEHIND_S)))
    assert time.time() - float(lab.ssh_local(RTC)) > BEHIND_S / 2
    lab.ssh_local(["date", "-s", f"@{time.time():.0f}"])
    forget(operator, "rehearse")
    inventory = lab.run_dir / "hosts.toml"
    plain = inventory.read_text()
    try:
        inventory.write_text(f"{plain}rehearsal_max_age_days = 1\n")
        yield operator
    finally:
        inventory.write_text(plain)


def test_install_is_refused_without_a_rehearsal(lab: Lab, demanding: Operator) -> None:
    boot_id = lab.ssh_local(BOOT_ID)
    run = ended(demanding, start(demanding))
    assert run["state"]["type"] == "FAILED"
    assert "needs a rehearsal" in run["state"]["message"]
    assert "rehearse/cottage" in run["state"]["message"]
    assert lab.ssh_local(BOOT_ID) == boot_id


def test_rehearsal_comes_back_and_lets_the_install_begin(lab: Lab, demanding: Operator) -> None:
    boot_id = lab.ssh_local(BOOT_ID).strip()
    secrets = leaks.node_secrets(lab)
    leaks.mark_files(lab)
    run_id = start(demanding, "rehearse/cottage")
    with leaks.in_arguments(lab, secrets) as shown:
        run = ended(demanding, run_id)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    report = report_of(demanding, run_id)
    boots = report["boot_id"]
    assert boots["origin"] == boot_id
    assert boots["returned"] == lab.ssh_local(BOOT_ID).strip()
    assert len({boots["origin"], boots["installer"], boots["returned"]}) == 3
    assert report["identity"]["origin"] == report["identity"]["installer"] == report["identity"]["returned"]
    assert report["away_s"]["kexec"] > 0
    assert report["away_s"]["reboot"] > 0
    assert report["path"] in ("direct", "relay")
    assert "partition" not in {phase["name"] for phase in report["phases"]}
    assert shown == set()
    assert leaks.on_machine(lab, secrets) == []
    assert leaks.in_files(lab.run_dir, secrets) == []

    # The installer had the origin's time, and set the hardware clock when it left.
    assert abs(time.time() - float(lab.ssh_local(RTC))) < CLOCK_MAY_DIFFER_S
    assert abs(time.time() - float(lab.ssh_local(["date", "+%s"]))) < CLOCK_MAY_DIFFER_S

    run_id = start(demanding)
    ends = time.monotonic() + 120
    while "rehearsed" not in phases_done(demanding, run_id):
        assert time.monotonic() < ends, "the install did not take the rehearsal"
        time.sleep(0.2)
    demanding.signal_flow(run_id, signal.SIGKILL)  # test_install.py tests the rest
    assert ended(demanding, run_id)["state"]["type"] == "CRASHED"
