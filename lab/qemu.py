"""The lab's machines: QEMU from the lab's Debian 13 tree."""

import json
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from lab import toolchain
from lab.architecture import AARCH64, X86_64, Architecture

GUEST_ADDRESS = "10.0.2.15"
HOST_ADDRESS = "10.0.2.2"
"""The address of the host's loopback, as a guest sees it in QEMU's user network."""
DNS_ADDRESS = "10.0.2.3"
MEMORY_MIB = 1024
EMULATED = "tcg,thread=multi"
"""QEMU's `-accel` for a machine without KVM."""
DISK_SLOT = 16
"""The first disk's place on the PCI bus; the places before it are for disks that are plugged in later."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A virtio disk; the guest sees it as `/dev/disk/by-id/virtio-SERIAL`."""

    path: Path
    serial: str
    format: str = "qcow2"


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that QEMU starts itself, instead of the disk's boot loader."""

    image: Path
    initrd: Path
    command_line: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """What kind of machine it is, beside its disks and its memory.

    Attributes:
        uefi: it has UEFI firmware, with an order of boot entries of its own; else a BIOS, which starts the first disk.
        machine: QEMU's machine type, instead of the architecture's: `q35` has an iTCO watchdog, and takes no disk while
            it runs.
        more: more arguments of QEMU, for more devices.
        network: QEMU's arguments for its network cards; by default it has one, in QEMU's user network.
        architecture: of its processor.

    """

    uefi: bool = False
    machine: str = ""
    more: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    architecture: Architecture = X86_64


BIOS = Hardware()
UEFI = Hardware(uefi=True)
ARM = Hardware(uefi=True, architecture=AARCH64)


@dataclass(frozen=True, slots=True)
class VirtualMachine:
    """What a machine is made of.

    Attributes:
        disks: it boots from the first, unless its UEFI firmware has another order.
        serial_log: the file for what the machine prints on its first serial port.
        qmp: a unix socket for QEMU's control protocol, at most 100 characters long.
        ssh_port: port on the host's loopback that leads to the guest's port 22.
        memory_mib: the guest's memory.
        cores: with several, about one boot in a hundred ends with QEMU 10.0 failing an assertion in iotlb_to_section
            (its issue 1921). With one, a guest may not answer for long: about one kexec in thirty broke the link.
        kernel: what to start instead of the first disk.
        hardware: what kind of machine it is.
        variables: where its UEFI firmware keeps its boot entries (`make_variables`); without them it has a BIOS.
        accelerator: QEMU's `-accel`; see lab/acceleration.py.
        rtc: what the hardware clock says at the start, as `2023-06-01T12:00:00` in UTC; empty for the time of now.

    """

    disks: tuple[Disk, ...]
    serial_log: Path
    qmp: Path
    ssh_port: int
    memory_mib: int = MEMORY_MIB
    cores: int = 2
    kernel: Kernel | None = None
    hardware: Hardware = BIOS
    variables: Path | None = None
    rtc: str = ""
    accelerator: str = EMULATED

    def command(self) -> list[str]:
        """Return the argv that runs the machine in the foreground, until the machine is powered off.

        Writes are not synced to the host's disk (`cache=unsafe`). If the disk is still needed, end QEMU with
        `ask(qmp, "quit")` or SIGTERM, not with SIGKILL.
        """
        architecture = self.hardware.architecture
        tree = toolchain.qemu(architecture)
        roms = toolchain.qemu()
        # fmt: off
        command = [
            *toolchain.tree_command(architecture.qemu, architecture),
            "-nodefaults", "-no-user-config", "-display", "none",
            "-L", f"{roms}/usr/share/qemu", "-L", f"{roms}/usr/share/seabios", "-L", f"{roms}/usr/lib/ipxe/qemu",
            "-machine", self.hardware.machine or architecture.machine,
            "-accel", self.accelerator, "-cpu", architecture.processor,
            "-smp", str(self.cores), "-m", str(self.memory_mib),
            "-device", "virtio-rng-pci",
            "-serial", f"file:{self.serial_log}",
            "-qmp", f"unix:{self.qmp},server=on,wait=off",
        ]
        # fmt: on
        forwarded = f"hostfwd=tcp:127.0.0.1:{self.ssh_port}-{GUEST_ADDRESS}:22"
        usual = ("-netdev", f"user,id=net,ipv6=off,{forwarded}", "-device", "virtio-net-pci,netdev=net")
        command += self.hardware.network or usual
        if self.variables:
            code = tree / architecture.firmware[0]
            command += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
            command += ["-drive", f"if=pflash,format=qcow2,file={self.variables}"]
        if self.rtc:
            command += ["-rtc", f"base={self.rtc}"]
        for number, disk in enumerate(self.disks):
            command += ["-drive", f"if=none,id=disk{number},file={disk.path},format={disk.format},cache=unsafe"]
            slot = f"addr={DISK_SLOT + number:#x}"
            # QEMU would start the disk instead of the kernel, and would change UEFI's order of boot entries each time.
            if not self.kernel and not self.variables:
                slot += f",bootindex={number}"
            command += ["-device", f"virtio-blk-pci,drive=disk{number},serial={disk.serial},{slot}"]
        if self.kernel:
            command += ["-kernel", str(self.kernel.image), "-initrd", str(self.kernel.initrd)]
            command += ["-append", self.kernel.command_line]
        return [*command, *self.hardware.more]


def make_overlay(backing: Path, into: Path, backing_format: str) -> None:
    """Make a qcow2 disk that reads from `backing` and keeps its own writes."""
    _image_tool("create", "-f", "qcow2", "-b", str(backing), "-F", backing_format, str(into))


def make_disk(into: Path, size_bytes: int) -> None:
    """Make an empty qcow2 disk."""
    _image_tool("create", "-f", "qcow2", str(into), str(size_bytes))


def convert(disk: Path, disk_format: str, into: Path, into_format: str) -> None:
    """Copy a disk, with all that it reads from others, into a new one of another format."""
    _image_tool("convert", "-f", disk_format, "-O", into_format, str(disk), str(into))


def make_variables(into: Path, architecture: Architecture = X86_64) -> None:
    """Make the memory of a UEFI firmware that has never been started; qcow2, so that `savevm` saves it too."""
    fresh = toolchain.qemu(architecture) / architecture.firmware[1]
    convert(fresh, "raw", into, "qcow2")


def _image_tool(*arguments: str) -> None:
    subprocess.run([*toolchain.tree_command("qemu-img"), *arguments], check=True, stdout=subprocess.DEVNULL)


def ask(qmp: Path, command: str, timeout_s: float = 30, **arguments: object) -> object:
    """Give QEMU one command (`quit`, `system_reset`, `set_link`, …) and return its answer.

    Raises:
        OSError: nobody listens there, or no answer came in time.
        RuntimeError: QEMU refused, or ended before it answered.

    """
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(timeout_s)
        link.connect(str(qmp))
        with link.makefile("rw", encoding="utf-8") as lines:
            answer: object = None
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                lines.write(json.dumps(request) + "\n")
                lines.flush()
                answer = _read_answer(lines)
            return answer


def plug_in(qmp: Path, disk: Disk, slot: int = DISK_SLOT - 1) -> None:
    """Plug a disk into a running machine, at a place on the PCI bus before its other disks.

    The running system gives it the next free name. The next kernel finds it first on the bus, so all names change.
    """
    file = {"driver": "file", "filename": str(disk.path)}
    node: dict[str, object] = {"driver": disk.format, "node-name": disk.serial, "file": file}
    ask(qmp, "blockdev-add", 30, **node)
    ask(qmp, "device_add", driver="virtio-blk-pci", drive=disk.serial, serial=disk.serial, addr=f"{slot:#x}")


def monitor(qmp: Path, command: str) -> None:
    """Give QEMU's human monitor a command (`savevm NAME`, `loadvm NAME`); it answers only with errors.

    Raises:
        OSError, RuntimeError: see `ask`; RuntimeError also if the monitor answered.

    """
    said = str(ask(qmp, "human-monitor-command", 120, **{"command-line": command}))
    if said.strip():
        raise RuntimeError(f"QEMU could not {command}: {said.strip()}")


def _read_answer(lines: TextIO) -> object:
    """Return the next answer; skip the greeting and events."""
    for line in lines:
        message: dict[str, object] = json.loads(line)
        if "error" in message:
            raise RuntimeError(f"QEMU refused: {message['error']}")
        if "return" in message:
            return message["return"]
    raise RuntimeError("QEMU ended before it answered")
