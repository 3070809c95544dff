"""The lab's origin for a machine with UEFI firmware: the same disk, whose boot partition is an EFI system partition.

The firmware has no boot entry for it: it finds the disk, and starts the program for removable media on it. That is
systemd-boot.
"""

import subprocess
import tempfile
from pathlib import Path

from lab import origin, toolchain
from lab.architecture import X86_64, Architecture

HEAD_BYTES = origin.ROOT_START_BYTES
"""What is changed of the disk: the partition table, and the boot partition behind it."""

LOADER_CONF = "timeout 0\ndefault debian.conf\n"
ENTRY = "title Debian\nlinux /vmlinuz\ninitrd /initrd.img\noptions {line}\n"


def make_bootable(disk: Path, architecture: Architecture) -> None:
    """Let UEFI firmware start the origin on this disk (qcow2), instead of a BIOS."""
    with tempfile.TemporaryDirectory(dir=disk.parent, prefix=".uefi-") as folder:
        head = Path(folder) / "head.raw"
        megabytes = f"count={HEAD_BYTES >> 20}"
        _tool("qemu-img", "dd", "-f", "qcow2", "-O", "raw", f"if={disk}", f"of={head}", "bs=1M", megabytes)
        _change(head, Path(folder), architecture)
        _tool("qemu-io", "-f", "qcow2", "-c", f"write -q -s {head} 0 {HEAD_BYTES}", str(disk))


def _change(head: Path, folder: Path, architecture: Architecture) -> None:
    """Put another boot loader on a disk, of which only the first part is there."""
    partition = ("-i", f"{head}@@{origin.BOOT_START_BYTES}")
    _run("mattrib", *partition, "-r", "-h", "-s", "::ldlinux.sys")
    _run("mdel", *partition, "::syslinux.cfg", "::ldlinux.sys", "::ldlinux.c32")
    _run("mmd", *partition, "::EFI", "::EFI/BOOT", "::loader", "::loader/entries")
    loader = toolchain.qemu(architecture) / f"usr/lib/systemd/boot/efi/systemd-boot{architecture.efi}.efi"
    _run("mcopy", *partition, str(loader), f"::EFI/BOOT/BOOT{architecture.efi.upper()}.EFI")
    line = origin.COMMAND_LINE.replace(X86_64.console, architecture.console)
    for name, text in {"loader.conf": LOADER_CONF, "entries/debian.conf": ENTRY.format(line=line)}.items():
        file = folder / "file"
        file.write_text(text)
        _run("mcopy", *partition, str(file), f"::loader/{name}")
    _run("sfdisk", "--quiet", "--part-type", str(head), "1", "ef")


def _tool(name: str, *arguments: str) -> None:
    _run(*toolchain.tree_command(name), *arguments)


def _run(*command: str) -> None:
    """Run a tool; its output is only shown if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr.strip()}")
