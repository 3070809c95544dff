"""ZFS for the lab: its programs, and its kernel modules, which Debian has only as source.

Each kernel's modules are built once, into the lab's cache. That takes longer than all else that the lab builds, so only
what has its root on ZFS asks for it.
"""

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

from lab import bundled
from lab.cache import Part
from lab.debian import make_tree
from lab.lists import entries
from lab.toolchain import built

HERE: Final = Path(__file__).parent
PACKAGES: Final = entries(HERE / "packages.txt")
BUILD: Final = HERE / "build.sh"
PROGRAMS: Final = ("usr/sbin/zpool", "usr/sbin/zfs", "usr/sbin/mount.zfs")
MODULES: Final = ("spl", "zfs")
# A thread of a program that ends asks for it by name.
_LIBRARY: Final = "usr/lib/x86_64-linux-gnu/libgcc_s.so.1"
PLACE: Final = "usr/lib/holdfast-zfs"
"""Where the programs are in the installer and in its starter."""
ARC_BYTES: Final = 64 << 20
"""The most that ZFS caches in RAM, of 1 GiB. It takes no smaller number than this."""
INSTALLER_HOST_ID: Final = 0x8425E349
"""The installer's host id: that of the stock image (nixos-images' nix/zfs-minimal.nix)."""


def for_kernel(release: str, suite: str) -> Path:
    """Return a folder with ZFS for one kernel of Debian's.

    `modules/` has the modules, packed as Debian packs its own. `bin/` and `lib/` have the programs, which run in any
    system (lab/bundled.py).

    Args:
        release: the kernel's release, as `uname -r` prints it.
        suite: the Debian release that has it.

    """
    packages = (*PACKAGES, f"linux-headers-{release}")

    def build(into: Path) -> None:
        tree = into / "tree"
        make_tree(suite, packages, tree, variant="extract", components="main contrib")
        shutil.copy(BUILD, tree / "build.sh")
        # configure reads /proc, and both it and make need the devices.
        inside = "mount -t proc proc proc; mount --rbind /dev dev; exec chroot . /bin/sh /build.sh $0"
        isolated = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", inside, release]
        with (into / "build.log").open("w") as log:
            subprocess.run(["nice", "-n", "10", *isolated], cwd=tree, stdout=log, stderr=log, check=True)
        (into / "modules").mkdir()
        for module in MODULES:
            shutil.copy(tree / "built" / f"{module}.ko.xz", into / "modules")
        bundled.bundle(tree, PROGRAMS, into / "lib", into / "bin")
        shutil.copy(tree / _LIBRARY, into / "lib")
        shutil.rmtree(tree)

    parts: list[Part] = [suite, release, PACKAGES, PROGRAMS, BUILD, Path(__file__), Path(bundled.__file__)]
    return built("zfs", parts, build, about="15 min")


def of_tree(tree: Path, suite: str) -> Path:
    """Return ZFS for the kernel of an unpacked Debian tree. Its modules are put there, beside the kernel's own."""
    [modules] = (tree / "usr/lib/modules").iterdir()
    zfs = for_kernel(modules.name, suite)
    shutil.copytree(zfs / "modules", modules / "updates")
    return zfs


def add_programs(zfs: Path, root: Path, folder: str) -> None:
    """Put the programs into a root, with links to them in one of its folders."""
    for name in ("bin", "lib"):
        shutil.copytree(zfs / name, root / PLACE / name)
    for program in PROGRAMS:
        name = Path(program).name
        (root / folder / name).symlink_to(f"/{PLACE}/bin/{name}")


def add_to_installer(zfs: Path, tree: Path) -> None:
    """Let the installer's tree have ZFS as the stock image has it: loaded at boot, with a host id."""
    add_programs(zfs, tree, "usr/sbin")
    (tree / "etc/hostid").write_bytes(struct.pack("<I", INSTALLER_HOST_ID))
    for folder, text in (("modprobe.d", f"options zfs zfs_arc_max={ARC_BYTES}\n"), ("modules-load.d", "zfs\n")):
        (tree / "etc" / folder).mkdir(exist_ok=True)
        (tree / "etc" / folder / "zfs.conf").write_text(text)
