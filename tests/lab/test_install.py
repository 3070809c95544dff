"""The whole install through a real Prefect server, in the lab: first what must be refused, then an install.

The inventory has the machine's name on its tailnet, and the final system gives the machine another one.
The install is also a row of the matrix.
The tests run in the order of this file: the machine is installed only once.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from lab.flow_runs import PHASES, answer, ended, phases_before, report_of, retry, start
from lab.nix import closure_copies_fail
from lab.operator import Operator
from lab.runtime import Lab
from lab.tailnet import DOMAIN
from tests.lab import kept, leaks
from tests.lab.changed import changed_flake
from tests.lab.matrix.table import Row, kind_of, row
from tests.lab.table import Findings

pytestmark = pytest.mark.lab

HOST_NAME = 'hostName = "cottage"'
OLD, NEW = f"cottage.{DOMAIN}", f"mill.{DOMAIN}"


def name_on_tailnet(lab: Lab) -> str:
    """Return the machine's name, as the operator's tailscaled knows it."""
    done = subprocess.run([*lab.tailscale, "status", "--json"], check=True, capture_output=True, text=True, timeout=30)
    [name] = [
        peer["DNSName"] for peer in json.loads(done.stdout)["Peer"].values() if lab.address in peer["TailscaleIPs"]
    ]
    return str(name).rstrip(".")


@pytest.fixture(scope="module", autouse=True)
def renamed(lab: Lab, operator: Operator) -> Iterator[None]:
    """A target that is the machine's name on its tailnet, and a flake that calls the machine something else."""
    inventory, flake = operator.lab.run_dir / "hosts.toml", lab.run_dir / "flake" / "flake.nix"
    before, system = inventory.read_text(), flake.read_text()
    assert (before.count(lab.address), system.count(HOST_NAME)) == (1, 1)
    assert name_on_tailnet(lab) == OLD
    inventory.write_text(before.replace(lab.address, OLD))
    flake.write_text(system.replace(HOST_NAME, f'hostName = "{NEW.partition(".")[0]}"'))
    yield
    inventory.write_text(before)
    flake.write_text(system)


@pytest.fixture(scope="module")
def secrets(lab: Lab, operator: Operator) -> tuple[str, ...]:
    """The node's private keys, and the user's: the installer's secret, a disk's key, and two files."""
    poison = os.urandom(24).hex()
    folder = lab.run_dir / "secrets" / "etc"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "secret-of-the-user").write_text(poison)
    lines, (key, token, portal) = leaks.bring(lab)
    with (operator.lab.run_dir / "hosts.toml").open("a") as inventory:
        inventory.write(f'extra_files = "secrets"\n{lines}')
    return (*leaks.node_secrets(lab), portal, key, token, poison)


def test_flow_reaches_the_target_over_the_tailnet_only(lab: Lab, operator: Operator) -> None:
    lab.stop_operator()
    try:
        run = ended(operator, start(operator))
    finally:
        lab.start_operator()
    assert run["state"]["type"] == "FAILED"
    message = run["state"]["message"]
    assert "cottage" in message
    assert "tailscale" in message.lower()
    assert "Hint:" in message


def test_unknown_host_is_refused_with_the_known_ones(operator: Operator) -> None:
    run = ended(operator, start(operator, host="cotage"))
    assert run["state"]["type"] == "FAILED"
    assert "cotage" in run["state"]["message"]
    assert "cottage" in run["state"]["message"]


def test_image_that_is_none_is_refused_before_anything_changes(lab: Lab, operator: Operator) -> None:
    boot_id = lab.ssh_local(["cat", "/proc/sys/kernel/random/boot_id"])
    fake = lab.run_dir / "fake.tar.gz"
    fake.write_text("no tarball")
    run = ended(operator, start(operator, image=str(fake)))
    assert run["state"]["type"] == "FAILED"
    assert "fake.tar.gz" in run["state"]["message"]
    assert lab.ssh_local(["cat", "/proc/sys/kernel/random/boot_id"]) == boot_id


def test_install_fails_at_install_and_retry_finishes_it(
    lab: Lab, operator: Operator, secrets: tuple[str, ...], matrix: Findings[Row]
) -> None:
    began = time.monotonic()
    with closure_copies_fail(lab.run_dir):
        run_id = start(operator)
        with leaks.in_arguments(lab, secrets) as shown:
            run = ended(operator, run_id)
    assert run["state"]["type"] == "FAILED"
    failed = report_of(operator, run_id)
    assert tuple(phase["name"] for phase in failed["phases"]) == (*phases_before("install"), "install")
    assert failed["phases"][-1]["outcome"] == "failed"
    # The disko script had the disk's key, and the installer has removed it.
    said = (operator.state / "runs" / run_id / "output.log").read_text()
    assert f"disko: {leaks.KEY} is there: 0:0 600, 48 bytes" in said
    assert lab.ssh_local(["ls", "-A", "/run/keys"]) == ""
    # The image went up once: the standby, which is armed, is made of what kexec has handed over.
    assert kept.HANDED_OVER in kept.said(lab)
    assert kept.uploaded_bytes(lab) == 0
    assert lab.ssh_local(["sh", "-c", "ls -d /run/holdfast/standby 2>/dev/null || echo gone"]).strip() == "gone"
    # The installer keeps its own secret as long as it runs.
    assert lab.ssh_local(["cat", leaks.PORTAL]) == secrets[-4]
    assert lab.ssh_local(["stat", "-c", "%u:%g %a", leaks.PORTAL]).strip() == "0:0 600"

    retry(operator, run_id)
    with leaks.in_arguments(lab, secrets) as shown_again:
        run = ended(operator, run_id)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    assert shown | shown_again == set()
    report = report_of(operator, run_id)
    matrix.add(row(kind_of("plain"), report, standby="not tried", seconds=time.monotonic() - began))
    attempts = {phase["name"]: phase["attempts"] for phase in report["phases"]}
    assert attempts == dict.fromkeys(PHASES, 1) | {"install": 2, "approve": 2}

    assert report["outcome"] == "done"
    assert len(set(report["boot_id"].values())) == 3
    assert None not in report["boot_id"].values()
    origin = report["identity"]["origin"]
    assert origin["node_key"].startswith("nodekey:")
    assert report["identity"]["installer"] == origin
    assert report["identity"]["final"] == origin
    # It has another name: the one that the run started with led nowhere by then.
    assert name_on_tailnet(lab) == NEW
    assert f'Set target = "{NEW}" in the inventory' in (lab.run_dir / "serve.log").read_text()
    assert report["closure"]["built"] == report["closure"]["booted"]
    assert report["closure"]["built"].startswith("/nix/store/")
    assert report["away_s"]["kexec"] > 0
    assert report["away_s"]["trial"] > 0
    assert report["away_s"]["reboot"] > 0


def test_no_secret_is_where_it_must_not_be(lab: Lab, secrets: tuple[str, ...]) -> None:
    assert lab.ssh_local(["cat", "/etc/secret-of-the-user"]) == secrets[-1]
    assert lab.ssh_local(["cat", leaks.TOKEN]) == secrets[-2]
    assert lab.ssh_local(["stat", "-c", "%u:%g %a", leaks.TOKEN]).strip() == "100:65534 640"
    assert lab.ssh_local(["sh", "-c", f"ls {leaks.PORTAL} 2>/dev/null || echo gone"]).strip() == "gone"
    assert leaks.in_files(lab.run_dir, secrets) == []
    assert leaks.on_machine(lab, secrets, "/etc/secret-of-the-user", leaks.TOKEN) == []


def test_installed_machine_is_proved_from_outside_the_flow(lab: Lab) -> None:
    assert lab.ssh_local(["readlink", "/run/current-system"]).strip().startswith("/nix/store/")
    assert lab.ssh_local(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).split()[1] == lab.host_key.split()[1]


def test_new_run_on_the_installed_machine_changes_nothing(lab: Lab, operator: Operator) -> None:
    inventory = operator.lab.run_dir / "hosts.toml"
    inventory.write_text(inventory.read_text().replace(OLD, NEW))
    boot_id = lab.ssh_local(["cat", "/proc/sys/kernel/random/boot_id"])
    run_id = start(operator)
    run = ended(operator, run_id)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    assert lab.ssh_local(["cat", "/proc/sys/kernel/random/boot_id"]) == boot_id
    outcomes = {phase["name"]: phase["outcome"] for phase in report_of(operator, run_id)["phases"]}
    assert outcomes["partition"] == outcomes["kexec"] == outcomes["reboot"] == "skipped"
    assert outcomes["verify"] == "done"


def test_changed_flake_leaves_the_installed_machine_alone(lab: Lab, operator: Operator) -> None:
    boot_id = lab.ssh_local(["cat", "/proc/sys/kernel/random/boot_id"])
    with changed_flake(lab):
        run_id = start(operator)
        run = ended(operator, run_id)
        assert (run["state"]["type"], run["state"]["name"]) == ("COMPLETED", "Installed already")
        assert "to wipe it start a run with reinstall" in run["state"]["message"]
        report = report_of(operator, run_id)
        assert (report["outcome"], [phase["name"] for phase in report["phases"]]) == ("done", ["preflight", "finish"])
        assert "installed already" in report["said"]
        # The disks are pinned; a person is asked all the same.
        run_id = start(operator, reinstall=True)
        answer(operator, run_id, "barn")
        run = ended(operator, run_id)
    assert run["state"]["type"] == "FAILED"
    assert "another name was typed; nothing was changed on cottage" in run["state"]["message"]
    assert lab.ssh_local(["cat", "/proc/sys/kernel/random/boot_id"]) == boot_id
