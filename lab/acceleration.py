"""Whether the lab's machine runs with KVM, or is emulated."""

import functools
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from lab import toolchain
from lab.architecture import X86_64, Architecture
from lab.origin import debian_tree
from lab.qemu import EMULATED

DEVICE: Final = Path("/dev/kvm")
KVM: Final = "kvm"
TRIAL_S: Final = 30
STARTED: Final = b"Linux version "


def accelerator(architecture: Architecture) -> str:
    """Return QEMU's `-accel` for a machine of this architecture."""
    if architecture is not X86_64 or os.uname().machine != X86_64.name or not os.access(DEVICE, os.R_OK | os.W_OK):
        return EMULATED
    return KVM if _kernel_starts() else EMULATED


@functools.cache
def _kernel_starts() -> bool:
    """Start Debian's kernel with KVM, and return whether it says its name; say which it is.

    That the device can be opened is not enough: on some hosts it is there and no common kernel starts with it.
    """
    [kernel] = (debian_tree() / "boot").glob("vmlinuz-*")
    with tempfile.TemporaryDirectory(prefix="holdfast-kvm-") as folder:
        serial = Path(folder) / "serial"
        # Without a root the kernel panics, reboots, and QEMU ends.
        # fmt: off
        command = [
            *toolchain.tree_command(X86_64.qemu), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-L", f"{toolchain.qemu()}/usr/share/qemu", "-L", f"{toolchain.qemu()}/usr/share/seabios",
            "-machine", X86_64.machine, "-accel", KVM, "-cpu", X86_64.processor, "-m", "256",
            "-serial", f"file:{serial}", "-kernel", str(kernel), "-append", f"console={X86_64.console} panic=-1",
        ]
        # fmt: on
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_S, check=False)
            why = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        except subprocess.TimeoutExpired:
            why = [f"nothing came of it in {TRIAL_S} s"]
        works = serial.is_file() and STARTED in serial.read_bytes()
    toolchain.announce("the lab's machine runs with KVM" if works else f"KVM does not work here: {why[0]}. Emulating …")
    return works
