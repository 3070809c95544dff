"""Makes a system for aarch64 from one for x86_64, without running anything of aarch64.

Debian's maintainer scripts would have to run, and so QEMU for single programs. But what they write (users, units that
start, links) is the same on both. So a finished x86_64 tree stays as it is, except for what is made for one machine:
programs, libraries, EFI programs and kernel modules. They come from a donor: an unpacked Debian for aarch64, with the
same packages.
"""

import lzma
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from lab import toolchain
from lab.aarch64.elf import is_elf, needed
from lab.architecture import AARCH64, X86_64
from lab.debian import make_tree

MODULES: Final = "usr/lib/modules"
LIBRARIES: Final = f"usr/lib/{AARCH64.triplet}"
PROGRAMS: Final = ("usr/bin", "usr/sbin")
LEFT_OUT: Final = ("usr/bin/extlinux", "usr/lib/klibc-")
"""What only x86_64 has: a boot loader for a BIOS, and a library whose name comes from its content."""


def donor(suite: str, packages: Sequence[str], *more: str) -> Path:
    """Return an unpacked Debian for aarch64, with these packages of a list for x86_64.

    `more` are options of mmdebstrap.
    """
    named = AARCH64.packages(packages)
    options = [f"--architectures={AARCH64.debian}", *more]

    def build(into: Path) -> None:
        make_tree(suite, named, into / "tree", variant="extract", hooks=options)
        depmod(into / "tree")

    return toolchain.built("debian-aarch64", [suite, *named, *options], build, about="30 s") / "tree"


def translate(tree: Path, donor: Path, own: Iterable[str] = ()) -> None:
    """Replace what is for x86_64 in a tree, and remove its kernel modules (`move_modules`).

    Args:
        tree: an unpacked system.
        donor: an unpacked Debian for aarch64.
        own: programs that are not Debian's: they are removed.

    Raises:
        FileNotFoundError: the donor lacks a program.

    """
    wanted: list[str] = []
    if (tree / MODULES).exists():
        shutil.rmtree(tree / MODULES)
    (tree / X86_64.loader).unlink(missing_ok=True)
    (tree / "etc/ld.so.cache").unlink(missing_ok=True)  # the loader knows Debian's folders without it
    for path in list(walk(tree)):
        name = path.relative_to(tree).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if name in own:
            path.unlink()
        elif X86_64.triplet in name or _efi_name(name) != name or is_elf(path):
            path.unlink()
            wanted.append(_efi_name(name.replace(X86_64.triplet, AARCH64.triplet)))
        elif path.is_symlink() and _efi_name(str(path.readlink())) != str(path.readlink()):
            leads_to = _efi_name(str(path.readlink()))
            path.unlink()
            path.symlink_to(leads_to)
    for name in wanted:
        take(donor, name, tree)
    take(donor, AARCH64.loader, tree)
    add_libraries([path for path in walk(tree) if is_elf(path)], donor, tree / LIBRARIES)


def take(donor: Path, name: str, tree: Path) -> None:
    """Copy a file, or a link and what it leads to.

    A library that aarch64 does not have is left out: what a program is linked with is looked for later.

    Raises:
        FileNotFoundError: the donor lacks a program.

    """
    # A starter has all programs in one folder.
    places = (
        name,
        *(f"{folder}/{Path(name).name}" for folder in PROGRAMS if Path(name).parent.name in ("bin", "sbin")),
    )
    source = next((path for path in (donor / other for other in places) if path.is_symlink() or path.exists()), None)
    if source is None:
        if AARCH64.triplet in name or name.startswith(LEFT_OUT):
            return
        raise FileNotFoundError(f"{donor} has no {name}")
    place = tree / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and not source.is_symlink():
        place.mkdir(exist_ok=True)  # what is in it has names of its own
        return
    if not source.is_symlink():
        shutil.copy2(source, place)
        return
    place.unlink(missing_ok=True)
    place.symlink_to(source.readlink())
    if not source.readlink().is_absolute():
        target = (source.parent.resolve() / source.readlink()).resolve().relative_to(donor.resolve()).as_posix()
        take(donor, target, tree)


def add_libraries(programs: Iterable[Path], donor: Path, folder: Path) -> None:
    """Copy the libraries that programs are linked with, and that are neither in the folder nor beside the program."""
    folder.mkdir(parents=True, exist_ok=True)
    waiting = list(programs)
    there = {path.name for path in walk(folder)}
    while waiting:
        program = waiting.pop()
        for name in needed(program):
            if name in there or (program.parent / name).exists():
                continue
            # Some programs have libraries of their own, in a folder that they know.
            found = next((donor / "usr").rglob(name), None)
            there.add(name)
            # A plugin may be linked with what nobody has installed.
            if found is None or found.parent != donor / LIBRARIES:
                continue
            shutil.copy(found.resolve(), folder / name)
            waiting.append(folder / name)


def move_modules(names: Iterable[str], donor: Path, tree: Path) -> frozenset[str]:
    """Copy kernel modules with what they depend on, unpacked, and return the names of those that are there.

    A module that this kernel does not have, or has built in, is left out.
    """
    [modules] = (donor / MODULES).iterdir()
    depends = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[path] = needs.split()
    asked = {_plain(name) for name in names}
    chosen = [path for path in depends if _plain(Path(path).name) in asked]
    for name in {name for path in chosen for name in (path, *depends[path])}:
        place = tree / MODULES / modules.name / name.removesuffix(".xz")
        place.parent.mkdir(parents=True, exist_ok=True)
        content = (modules / name).read_bytes()
        place.write_bytes(lzma.decompress(content) if name.endswith(".xz") else content)
    for table in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        if (modules / table).exists():
            shutil.copy(modules / table, tree / MODULES / modules.name)
    depmod(tree)
    builtin = {_plain(Path(line).name) for line in (modules / "modules.builtin").read_text().splitlines()}
    return frozenset({_plain(Path(path).name) for path in chosen} | (asked & builtin))


def depmod(tree: Path) -> None:
    """Write the tables by which modules are found and loaded."""
    [modules] = (tree / MODULES).iterdir()
    program = toolchain.tree_command("depmod", AARCH64)
    subprocess.run([*program, "--basedir", str(tree.resolve()), modules.name], check=True)


def modules_of(tree: Path) -> list[str]:
    """Return the names of a tree's kernel modules."""
    return sorted({_plain(path.name) for path in (tree / MODULES).rglob("*.ko*")})


def pack(tree: Path, into: Path) -> None:
    """Pack a tree as an initrd; its top folder's mode becomes that of the root."""
    tree.chmod(0o755)
    command = "find . | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible | zstd -T0 -10 -q"
    with into.open("wb") as out:
        subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tree, stdout=out, check=True)


def unpack(initrd: Path, tree: Path) -> None:
    """Unpack an initrd of the lab."""
    tree.mkdir()
    command = 'zstd -dcq "$0" | cpio -idm --quiet --no-absolute-filenames'
    subprocess.run(["bash", "-o", "pipefail", "-c", command, str(initrd.resolve())], cwd=tree, check=True)


def walk(folder: Path) -> Iterator[Path]:
    """Yield everything below the folder; links to folders are not followed."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from walk(path)


def _efi_name(name: str) -> str:
    return name.replace(f"{X86_64.efi}.efi", f"{AARCH64.efi}.efi")


def _plain(module: str) -> str:
    return module.partition(".")[0].replace("-", "_")
