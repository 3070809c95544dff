"""An install in parts (`until`), with flags for kexec, settings of Nix, and a command at the end.

The tests run in the order of this file: the machine is installed only once.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from lab.flow_runs import PHASES, ended, report_of, retry, start
from lab.operator import Operator
from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.options]

BOOT_ID = ["cat", "/proc/sys/kernel/random/boot_id"]
GREETING = "/var/lib/greeting"
KEYS = """\
kexec_extra_flags = ["--kexec-syscall", "--no-ifdown"]
nix_options = { cores = 1, fallback = true }
post_install = ["sh", "-c", "test $HOSTNAME = never || exit 3"]
"""
GREETS = f"""post_install = ["sh", "-c", 'echo "$1 $PATH" >{GREETING}; echo greeted $1', "sh", "$HOME $$ %n"]"""


@pytest.fixture(scope="module", autouse=True)
def keys(lab: Lab, operator: Operator) -> Iterator[None]:
    """The machine in its origin, and an inventory with more keys."""
    lab.start_over()
    inventory = operator.lab.run_dir / "hosts.toml"
    before = inventory.read_text()
    inventory.write_text(f"{before}{KEYS}")
    yield
    inventory.write_text(before)


def stop_after(operator: Operator, phase: str) -> dict[str, Any]:
    """Run until a phase; return the report."""
    run_id = start(operator, until=phase)
    run = ended(operator, run_id)
    assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", "Stopped as asked"), run["state"]["message"]
    report = report_of(operator, run_id)
    assert report["outcome"] == "stopped"
    assert report["said"] == run["state"]["message"]
    assert report["said"].startswith(f"stopped after {phase}, as asked. cottage runs ")
    assert [each["name"] for each in report["phases"]] == list(PHASES[: PHASES.index(phase) + 1])
    return report


def output(operator: Operator, run_id: str) -> str:
    return (operator.state / "runs" / run_id / "output.log").read_text()


def test_dry_run(lab: Lab, operator: Operator) -> None:
    boot_id = lab.ssh_local(BOOT_ID)
    report = stop_after(operator, "build")
    assert report["closure"]["built"].startswith("/nix/store/")
    assert lab.ssh_local(BOOT_ID) == boot_id
    assert lab.ssh_local(["sh", "-c", "ls -A /var/lib/holdfast /run/holdfast 2>/dev/null || :"]) == ""


def test_into_the_installer(lab: Lab, operator: Operator) -> None:
    boot_id = lab.ssh_local(BOOT_ID)
    report = stop_after(operator, "reconnect")
    assert "Its dead-man is armed: if nobody comes, it goes back to its origin" in report["said"]
    assert lab.ssh_local(BOOT_ID) != boot_id
    assert lab.ssh_local(["systemctl", "is-active", "holdfast-deadman.timer"]).strip() == "active"


def test_until_everything_is_in_place(lab: Lab, operator: Operator) -> None:
    boot_id = lab.ssh_local(BOOT_ID)
    report = stop_after(operator, "restore")
    assert "also after a power cut: its disk boots the standby" in report["said"]
    outcomes = {phase["name"]: phase["outcome"] for phase in report["phases"]}
    assert (outcomes["kexec"], outcomes["partition"]) == ("skipped", "done")
    assert lab.ssh_local(BOOT_ID) == boot_id
    assert lab.ssh_local(["ls", "/mnt/etc/ssh/ssh_host_ed25519_key"])


def test_to_the_end_with_a_command_that_fails_first(lab: Lab, operator: Operator) -> None:
    run_id = start(operator)
    run = ended(operator, run_id)
    assert run["state"]["type"] == "FAILED"
    assert run["state"]["message"].startswith("cottage is installed and proved. Only its post_install failed: ")
    report = report_of(operator, run_id)
    outcomes = {phase["name"]: phase["outcome"] for phase in report["phases"]}
    assert list(outcomes) == [*PHASES, "post_install"]
    assert (outcomes["partition"], outcomes["verify"], outcomes["post_install"]) == ("skipped", "done", "failed")

    boot_id = lab.ssh_local(BOOT_ID)
    inventory = operator.lab.run_dir / "hosts.toml"
    inventory.write_text(inventory.read_text().replace(KEYS.splitlines()[-1], GREETS))
    retry(operator, run_id)
    run = ended(operator, run_id)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    assert report_of(operator, run_id)["outcome"] == "done"
    assert lab.ssh_local(["cat", GREETING]).startswith("$HOME $$ %n /")
    assert "greeted $HOME $$ %n" in output(operator, run_id)
    assert lab.ssh_local(BOOT_ID) == boot_id


def test_a_later_run_greets_nobody(lab: Lab, operator: Operator) -> None:
    lab.ssh_local(["rm", GREETING])
    run_id = start(operator)
    run = ended(operator, run_id)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    assert report_of(operator, run_id)["phases"][-1]["name"] == "post_install"
    assert report_of(operator, run_id)["phases"][-1]["outcome"] == "skipped"
    assert lab.ssh_local(["sh", "-c", f"ls {GREETING} 2>/dev/null || echo gone"]).strip() == "gone"
