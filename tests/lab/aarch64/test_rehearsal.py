"""A rehearsal of a machine with an ARM processor: from Debian, started by UEFI, into the installer, and back."""

from collections.abc import Iterator

import pytest

from lab import qemu
from lab.aarch64 import flake, image, origin
from lab.flow_runs import ended, report_of, start
from lab.operator import Operator
from lab.runtime import Lab
from tests.lab import kept

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

RUN_S = 2400
BOOT_ID = ["cat", "/proc/sys/kernel/random/boot_id"]


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Lab]:
    with lab.other_machine(qemu.ARM, origin.disk()):
        yield lab


@pytest.fixture(scope="module")
def on_arm(machine: Lab, operator: Operator) -> Iterator[Operator]:
    """The operator, whose flake has a host of that architecture."""
    with flake.for_aarch64(machine.run_dir):
        yield operator


def test_origin_is_an_arm_machine_with_uefi(machine: Lab) -> None:
    assert machine.ssh_local(["uname", "-m"]).strip() == "aarch64"
    assert machine.ssh_local(["cat", "/sys/firmware/efi/fw_platform_size"]).strip() == "64"


def test_an_image_for_x86_64_is_refused(machine: Lab, on_arm: Operator) -> None:
    boot_id = machine.ssh_local(BOOT_ID)
    run = ended(on_arm, start(on_arm, "rehearse/cottage"), RUN_S)
    assert run["state"]["type"] == "FAILED"
    assert "is for x86_64, and cottage is aarch64" in run["state"]["message"]
    assert machine.ssh_local(BOOT_ID) == boot_id


def test_rehearsal_comes_back(machine: Lab, on_arm: Operator) -> None:
    boot_id = machine.ssh_local(BOOT_ID).strip()
    run_id = start(on_arm, "rehearse/cottage", image=str(image.installer_image()))
    run = ended(on_arm, run_id, RUN_S)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    assert kept.HANDED_OVER in kept.said(machine)
    report = report_of(on_arm, run_id)
    boots = report["boot_id"]
    assert boots["origin"] == boot_id
    assert boots["returned"] == machine.ssh_local(BOOT_ID).strip()
    assert len({boots["origin"], boots["installer"], boots["returned"]}) == 3
    assert report["identity"]["origin"] == report["identity"]["installer"] == report["identity"]["returned"]
    assert machine.ssh_local(["uname", "-m"]).strip() == "aarch64"
