"""The lab's machines: what QEMU is told of their firmware."""

from pathlib import Path

import pytest

from lab import qemu, toolchain

HERE = Path("/lab")
DISKS = (qemu.Disk(HERE / "disk.qcow2", "FIRST"), qemu.Disk(HERE / "data.qcow2", "SECOND"))


@pytest.fixture(autouse=True)
def tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "qemu", lambda *_: Path("/tree"))
    monkeypatch.setattr(toolchain, "tree_command", lambda program, *_: [program])


def command(hardware: qemu.Hardware = qemu.BIOS, variables: Path | None = None) -> str:
    machine = qemu.VirtualMachine(
        DISKS, HERE / "serial.log", HERE / "qmp.sock", 2222, hardware=hardware, variables=variables
    )
    return " ".join(machine.command())


def test_a_bios_starts_the_first_disk() -> None:
    told = command()
    assert "serial=FIRST,addr=0x10,bootindex=0" in told
    assert "pflash" not in told


def test_uefi_firmware_keeps_the_order_of_its_own_boot_entries() -> None:
    told = command(qemu.UEFI, HERE / "variables.qcow2")
    # With it QEMU would write the order anew at each start.
    assert "bootindex" not in told
    assert "if=pflash,format=qcow2,file=/lab/variables.qcow2" in told
    assert told.index("OVMF_CODE_4M.fd") < told.index("variables.qcow2")


def test_another_machine_has_more_devices() -> None:
    told = command(qemu.Hardware(machine="q35", more=("-device", "i6300esb")))
    assert "-machine q35" in told
    assert told.endswith("-device i6300esb")
