"""The lab's final system: a flake that takes the place of the user's, and the Debian files that it is built from.

`flake/` is the flake without its inputs: Nix builds with a static busybox, from archives that this module packs. Its
outputs have the names of a NixOS flake with disko. `layouts/` has what it can make of its disk, and how that boots.
`nixos-install` is the lab installer's program of that name. The `.txt` files list what is taken from Debian.
"""

import lzma
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab import bundled, systemd, zfs
from lab.cache import Part
from lab.debian import make_tree
from lab.lists import entries
from lab.toolchain import built, small_tailscaled

HERE = Path(__file__).parent
FLAKE = HERE / "flake"

SUITE = "trixie"
PACKAGES = entries(HERE / "packages.txt")
PROGRAMS = entries(HERE / "programs.txt")
LIBRARIES = entries(HERE / "libraries.txt")
FILES = entries(HERE / "files.txt")
UNITS = entries(HERE / "units.txt")
MODULES = entries(HERE / "modules.txt")
MORE_MODULES = {
    "btrfs": ("btrfs",),
    "dm-mod": ("dm-mod",),
    # The kernel asks for none of the ciphers by itself: the initrd has no modprobe.
    "dm-crypt": ("dm-crypt", "xts", "aesni-intel", "algif_skcipher"),
    "efivarfs": ("efivarfs",),
}
"""Modules that only some layouts load, each list by its name; the initrd of the others does not have them."""
ZFS_LAYOUTS = ("zfs",)
"""Layouts that need ZFS, which the inputs of the others do not have."""
TOOLS = {
    "storage": ("usr/bin/btrfs", "usr/sbin/mkfs.btrfs", "usr/sbin/lvm"),
    "luks": (
        "usr/sbin/cryptsetup",
        "usr/sbin/sshd",
        "usr/lib/openssh/sshd-auth",
        "usr/lib/openssh/sshd-session",
    ),
}
"""Programs that only some layouts need, by the name of the archive. In the initrd, sshd lets in who opens the root."""
SYSTEMD_BOOT = ("usr/bin/bootctl", "usr/lib/systemd/boot/efi/systemd-bootx64.efi")
GRUB = {"grub": "i386-pc", "grub-efi": "x86_64-efi"}
"""GRUB for a BIOS and for UEFI: its folder of modules, by the name of the archive."""
GRUB_PROGRAMS = ("usr/sbin/grub-install", "usr/bin/efibootmgr")
LAYOUTS = HERE / "layouts"


def flake_dir(run_dir: Path, layout: str = "plain") -> Path:
    """Write the flake with its inputs into the lab's folder, and return its path, for `path:FOLDER#cottage`.

    Args:
        run_dir: the lab's folder of this checkout. Root accepts the `operator_key` in it. Its `flake` is replaced.
        layout: how its disk is to be: a folder of `layouts/`.

    """
    flake = run_dir.resolve() / "flake"
    if flake.exists():
        shutil.rmtree(flake)
    shutil.copytree(FLAKE, flake, symlinks=True)
    shutil.copytree(LAYOUTS / layout, flake / "layout")
    shutil.copytree(inputs(with_zfs=layout in ZFS_LAYOUTS), flake / "inputs")
    shutil.copy(small_tailscaled(), flake / "inputs" / "tailscaled")
    public = ["ssh-keygen", "-y", "-f", str(run_dir / "operator_key")]
    with (flake / "inputs" / "authorized_keys").open("wb") as keys:
        subprocess.run(public, check=True, stdout=keys)
    return flake


def inputs(*, with_zfs: bool = False) -> Path:
    """Return a folder with what comes from Debian: `busybox/busybox`, and `.tar`s with the rest."""
    parts: list[Part] = [Path(__file__), Path(systemd.__file__), Path(bundled.__file__), systemd.UDEV_RULES]
    parts += [SUITE, PACKAGES, PROGRAMS, LIBRARIES, FILES, UNITS, MODULES, str(MORE_MODULES), SYSTEMD_BOOT]
    parts += [str(TOOLS), str(GRUB), GRUB_PROGRAMS]
    kind = "final-inputs"
    if with_zfs:
        kind = "final-inputs-zfs"  # of its own: nobody who builds the others waits until ZFS is built
        parts += [Path(zfs.__file__), zfs.BUILD, zfs.PACKAGES]
    return built(kind, parts, lambda into: _make_inputs(into, with_zfs=with_zfs), about="20 s")


def _make_inputs(into: Path, *, with_zfs: bool) -> None:
    tree = into / "tree"
    make_tree(SUITE, PACKAGES, tree, variant="extract")
    more_modules: Mapping[str, tuple[str, ...]] = MORE_MODULES
    if with_zfs:
        more_modules = MORE_MODULES | {"zfs": ("zfs",)}
        with tarfile.open(into / "zfs.tar", "w") as packed:
            its_zfs = zfs.of_tree(tree, SUITE)
            for name in ("bin", "lib"):
                packed.add(its_zfs / name, name)
    (into / "busybox").mkdir()
    shutil.copy(tree / "usr/bin/busybox", into / "busybox" / "busybox")
    _pack_bootloader(tree, into / "bootloader.tar")
    _pack_kernel(tree, into / "kernel.tar", into / "modules", more_modules)
    _pack_userland(tree, into / "userland.tar")
    for name, programs in TOOLS.items():
        _pack_tools(tree, programs, into / f"{name}.tar")
    for name, modules in GRUB.items():
        _pack_grub(tree, modules, into / f"{name}.tar")
    with tarfile.open(into / "systemd-boot.tar", "w") as packed:
        for name in SYSTEMD_BOOT:
            packed.add(tree / name, name)
    shutil.rmtree(tree)


def _pack_bootloader(tree: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as packed:
        packed.add(tree / "usr/bin/extlinux", "extlinux")
        for name in ("mbr.bin", "gptmbr.bin"):
            packed.add(tree / "usr/lib/syslinux/mbr" / name, name)


def _pack_grub(tree: Path, modules: str, archive: Path) -> None:
    """Pack what installs GRUB, with all that it needs, and the modules of GRUB for a BIOS or for UEFI."""
    folder = archive.with_suffix("")
    bundled.bundle(tree, GRUB_PROGRAMS, folder / "lib", folder / "bin")
    with tarfile.open(archive, "w") as packed:
        packed.add(folder, "usr/lib/holdfast-grub")
        for path in sorted((tree / "usr/lib/grub" / modules).iterdir()):
            if path.is_file():  # Debian's ready-made programs are in a folder
                packed.add(path, f"usr/lib/grub/{modules}/{path.name}")
    shutil.rmtree(folder)


def _pack_tools(tree: Path, programs: tuple[str, ...], archive: Path) -> None:
    """Pack programs with all that they need: they run in any system, as disko's do."""
    folder = archive.with_suffix("")
    bundled.bundle(tree, programs, folder / "lib", folder / "bin")
    with tarfile.open(archive, "w") as packed:
        packed.add(folder, ".")
    shutil.rmtree(folder)


def _pack_kernel(tree: Path, archive: Path, modules: Path, more: Mapping[str, tuple[str, ...]]) -> None:
    """Pack the kernel, its modules unpacked, and `modules/order`, where each comes after what it needs.

    Each entry of `more` has such a list of its own, without what is in `order`.
    """
    [kernel] = (tree / "boot").glob("vmlinuz-*")
    release = kernel.name.removeprefix("vmlinuz-")
    modules.mkdir()
    _in_tree(tree, "depmod", release)
    in_order = _order(tree, release, MODULES)
    lists = {"order": in_order}
    for name, wanted in more.items():
        lists[f"more-{name}"] = [path for path in _order(tree, release, wanted) if path not in in_order]
    for name, paths in lists.items():
        for path in paths:
            packed = tree / path.removeprefix("/")
            (modules / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
        (modules / name).write_text("".join(f"{Path(path).stem}\n" for path in paths))
    with tarfile.open(archive, "w") as packed_all:
        packed_all.add(kernel, "bzImage")
        packed_all.add(modules, "modules")
    shutil.rmtree(modules)


def _order(tree: Path, release: str, modules: tuple[str, ...]) -> list[str]:
    """Return the files of modules, each after what it needs."""
    found = _in_tree(tree, "modprobe", "--set-version", release, "--show-depends", "--all", *modules)
    return list(dict.fromkeys(re.findall(r"^insmod (\S+)", found, re.MULTILINE)))


def _pack_userland(tree: Path, archive: Path) -> None:
    """Pack the listed programs, files and units, and the libraries that the programs need."""
    units = tree / "usr/lib/systemd/system"
    systemd.remove_sandboxes(units)
    kept = [path for pattern in UNITS for path in units.glob(pattern)]
    kept += [wanted for wanted in units.glob("*.wants/*") if (units / wanted.name) in kept]
    rules = (f"usr/lib/udev/rules.d/{name}" for name in systemd.UDEV_RULES)
    with tarfile.open(archive, "w") as packed:
        for name in dict.fromkeys((*PROGRAMS, *FILES, *rules, *_libraries(tree))):
            _add(packed, tree, name)
        for path in kept:
            _add(packed, tree, path.relative_to(tree).as_posix())


def _add(packed: tarfile.TarFile, tree: Path, name: str) -> None:
    """Add a file. If it is a link, also add what it leads to inside the tree."""
    path = tree / name
    packed.add(path, name, recursive=False)
    if path.is_symlink() and not path.readlink().is_absolute():
        _add(packed, tree, path.parent.joinpath(path.readlink()).resolve().relative_to(tree.resolve()).as_posix())


def _libraries(tree: Path) -> Iterable[str]:
    """Yield the names of the loader, the libraries that the programs are linked with, and those they open later."""
    multiarch = "usr/lib/x86_64-linux-gnu"
    yield "usr/lib64/ld-linux-x86-64.so.2"
    programs = [*(f"/{name}" for name in PROGRAMS), "/usr/bin/extlinux"]
    programs += [f"/{multiarch}/{name}" for name in LIBRARIES]
    listed = "".join(_in_tree(tree, "/lib64/ld-linux-x86-64.so.2", "--list", program) for program in programs)
    for library in sorted(set(re.findall(r"=> (/\S+)", listed))):
        yield (tree / library[1:]).parent.resolve().relative_to(tree.resolve()).joinpath(Path(library).name).as_posix()
    yield from (f"{multiarch}/{name}" for name in LIBRARIES)


def _in_tree(tree: Path, *command: str) -> str:
    path = {"PATH": "/usr/sbin:/usr/bin"}
    said = subprocess.run(["chroot", str(tree), *command], check=True, env=path, stdout=subprocess.PIPE, text=True)
    return said.stdout
