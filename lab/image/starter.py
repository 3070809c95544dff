"""The starter of the lab's image: what a standby has on the boot partition (`nix/scripts/installer/starter.sh`).

It does what `nix/kexec-tailscale/standby.nix` builds, but is made of Debian's busybox and a few more programs.
"""

import lzma
import re
import shutil
import subprocess
from pathlib import Path

from holdfast.base.settings import script
from lab import zfs
from lab.debian import make_tree
from lab.lists import entries

HERE = Path(__file__).parent
INIT = script("installer/starter.sh")
PACKAGES = entries(HERE / "starter-packages.txt")
MODULES = entries(HERE / "starter-modules.txt")
PROGRAMS = ("usr/sbin/blkid", "usr/sbin/kexec", "usr/sbin/lvm", "usr/sbin/mdadm", "usr/bin/btrfs")
MOUNTS = ("ext4", "xfs", "btrfs", "vfat", "lvm", "md")

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"


def mounts(its_zfs: Path | None) -> tuple[str, ...]:
    """Return what standby.sh may rely on: file systems that the starter mounts, and what it puts together."""
    return (*MOUNTS, "zfs") if its_zfs else MOUNTS


def make_starter(kernel_tree: Path, suite: str, kexec: Path, its_zfs: Path | None = None) -> None:
    """Make `kexec/starter`, an initrd, and copy `kexec/stub.efi`, which makes an EFI program of it.

    Args:
        kernel_tree: a tree with the image's kernel modules, which are still packed.
        suite: the Debian release.
        kexec: the image's folder.
        its_zfs: ZFS for the image's kernel (lab/zfs), whose modules are in that tree; or None.

    """
    tree, root = kexec.parent / "starter-tree", kexec.parent / "starter-root"
    make_tree(suite, PACKAGES, tree, variant="extract")
    for folder in ("bin", _LIBRARIES, "usr/lib64", "dev", "proc", "sys", "run"):
        (root / folder).mkdir(parents=True)
    for link, leads_to in {"lib": "usr/lib", "lib64": "usr/lib64", "sbin": "bin"}.items():
        (root / link).symlink_to(leads_to)
    _copy_programs(tree, root)
    _copy_modules(kernel_tree, root, (*MODULES, *(zfs.MODULES if its_zfs else ())))
    if its_zfs:
        zfs.add_programs(its_zfs, root, "bin")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    shutil.copy(tree / STUB, kexec / "stub.efi")
    with (kexec / "starter").open("wb") as out:
        pack = "find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0 | zstd -T0 -19 -q"
        subprocess.run(["bash", "-o", "pipefail", "-c", pack], cwd=root, stdout=out, check=True)
    shutil.rmtree(tree)
    shutil.rmtree(root)


def _copy_programs(tree: Path, root: Path) -> None:
    busybox = tree / "usr/bin/busybox"
    shutil.copy(busybox, root / "bin")
    listed = subprocess.run([str(busybox), "--list"], check=True, capture_output=True, text=True).stdout
    for name in listed.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    shutil.copy(tree / _LOADER, root / _LOADER)
    for program in PROGRAMS:
        place = root / "bin" / Path(program).name
        place.unlink(missing_ok=True)
        shutil.copy(tree / program, place)
        listing = [str(tree / _LOADER), "--library-path", str(tree / _LIBRARIES), "--list", str(tree / program)]
        needed = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
        for library in re.findall(r"=> (\S+/lib/x86_64-linux-gnu/\S+)", needed):
            shutil.copy(library, root / _LIBRARIES)


def _copy_modules(kernel_tree: Path, root: Path, wanted: tuple[str, ...]) -> None:
    """Copy the listed modules and what they need, unpacked: the whole starter is packed once."""
    modules = next((kernel_tree / "usr/lib/modules").iterdir())
    path = {"PATH": "/usr/sbin:/usr/bin"}
    subprocess.run(["chroot", str(kernel_tree), "depmod", modules.name], check=True, env=path)
    asked = ["modprobe", "--set-version", modules.name, "--show-depends", "--all", *wanted]
    found = subprocess.run(
        ["chroot", str(kernel_tree), *asked], check=True, env=path, capture_output=True, text=True
    ).stdout
    kept = list(dict.fromkeys(re.findall(r"^insmod (?:/usr)?/lib/modules/[^/]+/(\S+)", found, re.MULTILINE)))
    into = root / "usr/lib/modules" / modules.name
    for name in kept:
        place = into / name.removesuffix(".xz")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(lzma.decompress((modules / name).read_bytes()))
    # busybox' modprobe reads these two tables. They must name nothing that is not here.
    lines = (modules / "modules.dep").read_text().splitlines()
    dep = [line.replace(".ko.xz", ".ko") for line in lines if line.partition(":")[0] in kept]
    (into / "modules.dep").write_text("".join(f"{line}\n" for line in dep))
    names = {Path(name).name.partition(".")[0].replace("-", "_") for name in kept}
    aliases = (modules / "modules.alias").read_text().splitlines()
    ours = [line for line in aliases if line.rpartition(" ")[2].replace("-", "_") in names]
    (into / "modules.alias").write_text("".join(f"{line}\n" for line in ours))
