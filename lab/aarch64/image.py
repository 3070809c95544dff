"""The lab's installer image for aarch64: that for x86_64, with Debian's programs and kernel for aarch64."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from lab import image
from lab.aarch64 import elf, translated
from lab.architecture import AARCH64, X86_64
from lab.cache import Part
from lab.image import starter
from lab.toolchain import built, small_tailscaled

NAME: Final = image.NAME.replace(X86_64.name, AARCH64.name)
KERNEL_PARAMS: Final = image.KERNEL_PARAMS.replace(X86_64.console, AARCH64.console)
HERE: Final = Path(__file__).parent
LOADED: Final = "etc/modules-load.d/installer.conf"


def installer_image() -> Path:
    """Return the image's tarball, `NAME.tar`; see `lab.image.installer_image`."""
    return image_folder() / f"{NAME}.tar"


def image_folder() -> Path:
    """Return the folder with the tarball, and with `kexec/` unpacked, to boot it without kexec."""
    model = image.image_folder()
    parts: list[Part] = [model.name, Path(__file__), HERE / "translated.py", HERE / "elf.py"]
    parts += [_donor().parent.name, str(small_tailscaled(AARCH64))]
    return built("installer-image-aarch64", parts, lambda into: _make(model / "kexec", into), about="2 min")


def _donor() -> Path:
    return translated.donor(image.SUITE, sorted({*image.PACKAGES, *starter.PACKAGES}))


def _make(model: Path, into: Path) -> None:
    donor, kexec = _donor(), into / "kexec"
    kexec.mkdir()
    [kernel] = (donor / "boot").glob("vmlinuz-*")
    shutil.copy(kernel, kexec / "bzImage")
    shutil.copy(donor / f"usr/lib/systemd/boot/efi/linux{AARCH64.efi}.efi.stub", kexec / "stub.efi")
    loads = _make_initrd(model / "initrd", donor, kexec / "initrd")
    _make_starter(model / "starter", donor, kexec / "starter")
    _make_programs(model, donor, kexec)
    run = (model / "run").read_text().replace(X86_64.console, AARCH64.console)
    if image.WATCHDOG_DRIVERS not in loads:
        run = run.replace(f'watchdog_drivers="{image.WATCHDOG_DRIVERS}"', 'watchdog_drivers=""')
    (kexec / "run").write_text(run)
    (kexec / "run").chmod(0o755)
    subprocess.run(["tar", "-C", str(into), "-cf", str(into / f"{NAME}.tar"), "kexec"], check=True)


def _make_initrd(model: Path, donor: Path, initrd: Path) -> frozenset[str]:
    """Make the installer itself, and return the names of its kernel modules."""
    tree = initrd.with_name("tree")
    translated.unpack(model, tree)
    modules = translated.modules_of(tree)
    translated.translate(tree, donor, own=("usr/sbin/tailscaled",))
    shutil.copy(small_tailscaled(AARCH64), tree / "usr/sbin/tailscaled")
    there = translated.move_modules(modules, donor, tree)
    # systemd-modules-load would fail for a module that the kernel does not have.
    listed = (tree / LOADED).read_text().splitlines()
    (tree / LOADED).write_text("".join(f"{line}\n" for line in listed if line.replace("-", "_") in there))
    release = tree / "usr/lib/os-release"
    release.write_text(release.read_text().replace(image.NAME, NAME))
    translated.pack(tree, initrd)
    shutil.rmtree(tree)
    return there


def _make_starter(model: Path, donor: Path, into: Path) -> None:
    tree = into.with_name("tree")
    translated.unpack(model, tree)
    modules = translated.modules_of(tree)
    translated.translate(tree, donor)
    translated.move_modules(modules, donor, tree)
    translated.pack(tree, into)
    shutil.rmtree(tree)


def _make_programs(model: Path, donor: Path, kexec: Path) -> None:
    """Make kexec and ip with their loader and libraries (lab/bundled.py)."""
    libraries = kexec / "lib"
    libraries.mkdir()
    loader = Path(AARCH64.loader).name
    for name in ("usr/sbin/kexec", "usr/bin/ip"):
        shutil.copy(donor / name, libraries)
        wrapper = kexec / Path(name).name
        wrapper.write_text((model / wrapper.name).read_text().replace(Path(X86_64.loader).name, loader))
        wrapper.chmod(0o755)
    shutil.copy(donor / AARCH64.loader, libraries)
    translated.add_libraries([path for path in libraries.iterdir() if elf.is_elf(path)], donor, libraries)
