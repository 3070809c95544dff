"""The lab's origin for aarch64: the same Debian, the same node on the same tailnet.

The root file system is the joined origin's, with Debian's programs and kernel for aarch64. UEFI firmware starts it.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from lab import origin, qemu
from lab.aarch64 import translated
from lab.architecture import AARCH64
from lab.cache import Part
from lab.joined import joined_pair
from lab.toolchain import built, small_tailscaled

HERE: Final = Path(__file__).parent
INIT: Final = HERE / "origin-init.sh"
MERGED: Final = 'for name in bin lib sbin; do mkdir -p "$1/usr/$name"; ln -s "usr/$name" "$1/$name"; done'
"""Debian 12 has these links only once its packages are configured."""
INITRD_MODULES: Final = tuple(origin.INITRD_MODULES.split())


def disk() -> Path:
    """Return the origin's disk, a qcow2: it is the same node on the same tailnet as that of `joined_pair`."""
    parts: list[Part] = [joined_pair().name, Path(__file__), INIT, HERE / "translated.py", HERE / "elf.py"]
    parts += [_donor().parent.name, str(small_tailscaled(AARCH64))]
    return built("origin-aarch64", parts, _make, about="3 min") / "origin.qcow2"


def _donor() -> Path:
    status = (origin.debian_tree() / "var/lib/dpkg/status").read_text(encoding="utf-8")
    installed = re.findall(r"^Package: (\S+)$", status, re.MULTILINE)
    return translated.donor(origin.SUITE, sorted({*installed, "busybox-static"}), f"--setup-hook={MERGED}")


def _make(into: Path) -> None:
    raw = into / "origin.img"
    qemu.convert(joined_pair() / "origin.qcow2", "qcow2", raw, "raw")
    with tempfile.TemporaryDirectory(dir=into, prefix=".tree-") as work:
        tree, donor = Path(work) / "root", _donor()
        tree.mkdir()
        subprocess.run(
            ["debugfs", "-R", f"rdump / {tree}", f"{raw}?offset={origin.ROOT_START_BYTES}"],
            check=True,
            capture_output=True,
        )
        _furnish(tree, donor)
        _make_initrd(donor, Path(work) / "initrd", Path(work) / "initrd.img")
        _write(raw, tree, donor, Path(work) / "initrd.img")
    qemu.convert(raw, "raw", into / "origin.qcow2", "qcow2")
    raw.unlink()


def _furnish(tree: Path, donor: Path) -> None:
    shutil.rmtree(tree / "lost+found")
    translated.translate(tree, donor, own=("usr/sbin/tailscaled",))
    shutil.copy(small_tailscaled(AARCH64), tree / "usr/sbin/tailscaled")
    shutil.copytree(donor / translated.MODULES, tree / translated.MODULES, symlinks=True)
    translated.depmod(tree)


def _make_initrd(donor: Path, tree: Path, initrd: Path) -> None:
    for folder in ("bin", "dev", "proc", "sys", "root", "usr/lib"):
        (tree / folder).mkdir(parents=True)
    (tree / "lib").symlink_to("usr/lib")
    (tree / "sbin").symlink_to("bin")
    translated.move_modules(INITRD_MODULES, donor, tree)
    (tree / "modules").write_text("".join(f"{name}\n" for name in INITRD_MODULES))
    shutil.copy(donor / "bin/busybox", tree / "bin/busybox")
    shutil.copy(INIT, tree / "init")
    (tree / "init").chmod(0o755)
    translated.pack(tree, initrd)


def _write(raw: Path, tree: Path, donor: Path, initrd: Path) -> None:
    """Replace the kernel and its initrd on the boot partition, and the root file system."""
    [kernel] = (donor / "boot").glob("vmlinuz-*")
    boot = f"{raw}@@{origin.BOOT_START_BYTES}"
    for file, name in ((kernel, "vmlinuz"), (initrd, "initrd.img")):
        subprocess.run(["mcopy", "-o", "-i", boot, str(file), f"::{name}"], check=True)
    size = f"{(origin.DISK_BYTES - origin.ROOT_START_BYTES) // 1024}k"
    options = ["-q", "-F", "-t", "ext4", "-L", "origin-root", "-E", f"offset={origin.ROOT_START_BYTES}"]
    subprocess.run(["mke2fs", *options, "-d", str(tree), str(raw), size], check=True, capture_output=True)
