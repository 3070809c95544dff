"""Three disks change their names between origin and installer: the right one is wiped, the others are untouched."""

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.flow_runs import answer, ended, phases_done, start
from lab.operator import Operator
from lab.runtime import Lab

pytestmark = pytest.mark.lab

OURS = "COTTAGE0001"
OTHERS = ("DATA0001", "THIRD0001")


def name_of(lab: Lab, serial: str) -> str:
    """Return the name that the running kernel gives to a disk."""
    return lab.ssh_local(["readlink", "-f", f"/dev/disk/by-id/virtio-{serial}"]).strip()


def digest(lab: Lab, serial: str) -> str:
    return lab.ssh_local(["sh", "-c", f"sha256sum </dev/disk/by-id/virtio-{serial}"]).split()[0]


def beginning(lab: Lab, serial: str) -> str:
    """Return the digest of a disk's partition table and boot code, which its running system does not change."""
    return lab.ssh_local(["sh", "-c", f"head -c 1048576 /dev/disk/by-id/virtio-{serial} | sha256sum"]).split()[0]


@pytest.fixture
def others(lab: Lab) -> Iterator[dict[str, str]]:
    """The digests of two disks with data, in a machine with three disks that runs its origin."""
    lab.start_over()
    try:
        lab.plug_in_disk("THIRD0001")
        fill = "udevadm settle --timeout=30; head -c 4M /dev/urandom >/dev/disk/by-id/virtio-{}; sync"
        for serial in OTHERS:
            lab.ssh_local(["sh", "-c", fill.format(serial)])
        assert [name_of(lab, serial) for serial in (OURS, *OTHERS)] == ["/dev/vda", "/dev/vdb", "/dev/vdc"]
        yield {serial: digest(lab, serial) for serial in OTHERS}
    finally:
        lab.power_off()
        lab.power_on()


def until_done(operator: Operator, run_id: str, phase: str) -> None:
    ends = time.monotonic() + 300
    while phase not in phases_done(operator, run_id):
        assert time.monotonic() < ends, (
            f"{phase} was not done; the run is {operator.api(f'/flow_runs/{run_id}')['state']}"
        )
        time.sleep(0.2)


@contextmanager
def flake_with(lab: Lab, device: str) -> Iterator[None]:
    """Let the inventory name another flake, whose disko configuration has this device, and pin no disk."""
    flake = lab.run_dir / "flake-of-another-disk"
    inventory = lab.run_dir / "hosts.toml"
    plain = inventory.read_text()
    try:
        shutil.copytree(lab.run_dir / "flake", flake, symlinks=True)
        (flake / "flake.nix").write_text(
            (flake / "flake.nix").read_text().replace(f"/dev/disk/by-id/virtio-{OURS}", device)
        )
        other = plain.replace(f"path:{lab.run_dir / 'flake'}", f"path:{flake}")
        inventory.write_text("".join(line for line in other.splitlines(keepends=True) if not line.startswith("disks")))
        yield
    finally:
        inventory.write_text(plain)
        shutil.rmtree(flake, ignore_errors=True)


@pytest.mark.options
def test_the_right_disk_is_wiped_under_another_name(lab: Lab, operator: Operator, others: dict[str, str]) -> None:
    table = beginning(lab, OURS)
    run_id = start(operator)
    until_done(operator, run_id, "reconnect")
    assert [name_of(lab, serial) for serial in (OURS, *OTHERS)] == ["/dev/vdb", "/dev/vdc", "/dev/vda"]
    until_done(operator, run_id, "partition")
    operator.signal_flow(run_id, signal.SIGKILL)  # test_install.py tests the rest
    assert beginning(lab, OURS) != table
    assert {serial: digest(lab, serial) for serial in OTHERS} == others


def test_a_name_that_is_another_disk_by_then_stops_the_run(
    lab: Lab, operator: Operator, others: dict[str, str]
) -> None:
    table = beginning(lab, OURS)
    with flake_with(lab, "/dev/vda"):
        run_id = start(operator)
        answer(operator, run_id, "cottage")
        run = ended(operator, run_id)
    assert run["state"]["type"] == "FAILED"
    message = run["state"]["message"]
    assert "/dev/vda" in message
    assert OURS in message
    assert "THIRD0001" in message
    assert name_of(lab, "THIRD0001") == "/dev/vda"
    assert {serial: digest(lab, serial) for serial in OTHERS} == others
    assert beginning(lab, OURS) == table
