"""The lab's installer image: does what the kexec image of nix/ does, but is made of Debian packages, not NixOS.

The tarball holds `kexec/run` (`nix/scripts/origin/kexec-run.sh`), `kexec/kexec`, `kexec/ip`, `kexec/bzImage` and
`kexec/initrd`, and `kexec/lib/`: Debian's kexec and ip are not static, so the two are wrappers that start the
real ones with their own loader and libraries, whatever the origin has. The initrd is a whole Debian 13 that runs
from RAM, with systemd, sshd, tailscaled and Nix. `kexec/starter` and `kexec/stub.efi` are for the standby (starter.py).

`files/` is copied into the initrd as it is. The `.txt` files beside this one list packages, kernel modules, units, and
what is left out.
"""

import lzma
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from holdfast.base.settings import script
from lab import bundled, systemd, zfs
from lab.cache import Part
from lab.debian import make_tree
from lab.image import starter
from lab.lists import entries
from lab.toolchain import built, small_tailscaled

NAME = "holdfast-kexec-installer-lab-x86_64-linux"
SUITE = "trixie"
DEAD_MAN_S = 900
"""The dead-man's deadline if `kexec/run` is not given one."""

KERNEL_PARAMS = (
    "console=ttyS0 panic=30 systemd.crash_reboot systemd.crash_action=reboot quiet net.ifnames=0 lsm=capability"
    " systemd.show_status=false watchdog.stop_on_reboot=0"
)
WATCHDOG_DRIVERS = "i6300esb"
"""The watchdogs that the image drives: of QEMU's, the kernel for clouds has no other (no iTCO_wdt)."""
HERE = Path(__file__).parent
FILES = HERE / "files"
RUN_SCRIPT = script("origin/kexec-run.sh")
GENERATOR = script("installer/dead-man-generator.sh")
GUEST_SCRIPTS = {
    f"{name}.sh": script(f"installer/{name}.sh")
    for name in (
        "carry-over",
        "dead-man",
        "installer-restore",
        "restore-network",
        "set-clock",
        "standby-keep",
        "tailscale-prefs",
        "tailscale-watch",
        "zram-swap",
    )
}
INSTALL_WRAPPER = script("installer/nixos-install.sh")
NIXOS_INSTALL = HERE.parent / "final" / "nixos-install"

PACKAGES = entries(HERE / "packages.txt")
MODULES = entries(HERE / "modules.txt")
DROPPED = entries(HERE / "dropped.txt")
WANTS = entries(HERE / "wants.txt")

LINKS = {
    "etc/systemd/system/default.target": "/usr/lib/systemd/system/multi-user.target",
    "usr/bin/awk": "mawk",
    "usr/sbin/iptables": "xtables-nft-multi",
    "usr/sbin/ip6tables": "xtables-nft-multi",
    "usr/bin/tailscale": "../sbin/tailscaled",
    # What standby.sh takes: for a BIOS, and for UEFI.
    "etc/holdfast/standby/extlinux": "/usr/bin/extlinux",
    "etc/holdfast/standby/mbr.bin": "/usr/lib/syslinux/mbr/mbr.bin",
    "etc/holdfast/standby/gptmbr.bin": "/usr/lib/syslinux/mbr/gptmbr.bin",
    "etc/holdfast/standby/boot.efi": "/usr/lib/systemd/boot/efi/systemd-bootx64.efi",
    # Debian's base-files makes it only when it is configured; tailscale looks there for its socket.
    "var/run": "/run",
}
"""Links in the image, and what they lead to."""

OS_RELEASE = 'ID_LIKE=nixos\nVARIANT="Holdfast lab installer"\nVARIANT_ID=installer\nIMAGE_ID={image_id}\n'
"""nixos-anywhere recognises an installer by `ID_LIKE` and `VARIANT_ID` (its src/get-facts.sh)."""


def installer_image(*, with_zfs: bool = False) -> Path:
    """Return the image's tarball, `NAME.tar`; it is built again only when something that it is made of has changed.

    It is not compressed, like that of `nix/kexec-tailscale.nix`. Needs root, and `cpio`, `zstd` and `mmdebstrap` on
    this machine.

    Args:
        with_zfs: whether it has ZFS too, as the real one has.

    """
    return image_folder(with_zfs=with_zfs) / f"{NAME}.tar"


def image_folder(*, with_zfs: bool = False) -> Path:
    """Return the folder with the tarball, and with `kexec/` unpacked, to boot it without kexec."""
    tailscaled = small_tailscaled()
    parts: list[Part] = [
        SUITE,
        PACKAGES,
        MODULES,
        DROPPED,
        WANTS,
        systemd.UDEV_RULES,
        Path(systemd.__file__),
        Path(bundled.__file__),
    ]
    parts += [Path(__file__), FILES, *GUEST_SCRIPTS.values(), RUN_SCRIPT, GENERATOR, INSTALL_WRAPPER, NIXOS_INSTALL]
    parts += [str(tailscaled), Path(starter.__file__), starter.INIT, starter.PACKAGES, starter.MODULES]
    kind = "installer-image"
    if with_zfs:
        kind = "installer-image-zfs"  # of its own: nobody who builds the other waits until ZFS is built
        parts += [Path(zfs.__file__), zfs.BUILD, zfs.PACKAGES]

    def build(into: Path) -> None:
        tree = into / "tree"
        make_tree(SUITE, PACKAGES, tree, variant="extract")
        its_zfs = zfs.of_tree(tree, SUITE) if with_zfs else None
        _make_kexec_folder(tree, into / "kexec")
        starter.make_starter(tree, SUITE, into / "kexec", its_zfs)
        _make_installer(tree, tailscaled, its_zfs)
        _pack_initrd(tree, into / "kexec" / "initrd")
        shutil.rmtree(tree)
        subprocess.run(["tar", "-C", str(into), "-cf", str(into / f"{NAME}.tar"), "kexec"], check=True)

    return built(kind, parts, build, about="1 min")


def _make_kexec_folder(tree: Path, kexec: Path) -> None:
    """Fill `kexec/` with all but the initrd."""
    kexec.mkdir()
    [kernel] = (tree / "boot").glob("vmlinuz-*")
    shutil.copy(kernel, kexec / "bzImage")
    bundled.bundle(tree, ("usr/sbin/kexec", "usr/bin/ip"), kexec / "lib", kexec)
    run = RUN_SCRIPT.replace("@init@", "/init").replace("@kernelParams@", KERNEL_PARAMS)
    _write(kexec / "run", run.replace("@watchdogDrivers@", WATCHDOG_DRIVERS), 0o755)


def _make_installer(tree: Path, tailscaled: Path, its_zfs: Path | None) -> None:
    """Turn the unpacked packages into a system that boots from RAM."""
    modules = next((tree / "usr/lib/modules").iterdir())
    _keep_modules(tree, modules, (*MODULES, *(zfs.MODULES if its_zfs else ())))
    for path in _dropped(tree):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for rule in (tree / "usr/lib/udev/rules.d").iterdir():
        if rule.name not in systemd.UDEV_RULES:
            rule.unlink()
    systemd.remove_sandboxes(tree / "usr/lib/systemd/system")
    for folder in ("var/log", "var/cache", "var/tmp", "mnt", "etc/holdfast/standby"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    _install_files(tree, tailscaled)
    if its_zfs:
        zfs.add_to_installer(its_zfs, tree)
    mounts = starter.mounts(its_zfs)
    _write(tree / "etc/holdfast/standby/starter-mounts", "".join(f"{word}\n" for word in mounts), 0o644)
    units = tree / "etc/systemd/system"
    for link in WANTS:
        (units / link).parent.mkdir(exist_ok=True)
        name = (units / link).name
        folder = "/etc/systemd/system" if (units / name).exists() else "/usr/lib/systemd/system"
        (units / link).symlink_to(f"{folder}/{name}")
    for link, leads_to in LINKS.items():
        (tree / link).unlink(missing_ok=True)
        (tree / link).symlink_to(leads_to)
    subprocess.run(["chroot", str(tree), "/usr/sbin/ldconfig"], check=True)


def _dropped(tree: Path) -> list[Path]:
    """Return what is to be removed. All of it is found first: a removed folder may hold what a later entry names."""
    return [path for name in DROPPED for path in (tree.glob(name) if "*" in name else [tree / name])]


def _install_files(tree: Path, tailscaled: Path) -> None:
    """Put the scripts, the lab's own files and Tailscale in place."""
    shutil.copytree(FILES, tree, dirs_exist_ok=True)
    (tree / "etc/shadow").chmod(0o640)
    for unit in (tree / "etc/systemd/system").glob("holdfast-*"):
        unit.write_text(unit.read_text().replace("@dead_man_s@", str(DEAD_MAN_S)))
    ours = tree / "usr/lib/holdfast"
    ours.mkdir()
    for name, text in GUEST_SCRIPTS.items():
        _write(ours / name, text, 0o755)
    generator = GENERATOR.replace("@handover@", "")
    (tree / "etc/systemd/system-generators").mkdir()
    _write(tree / "etc/systemd/system-generators/holdfast-dead-man", generator, 0o755)
    shutil.copy(tailscaled, tree / "usr/sbin/tailscaled")
    _write(ours / "nixos-install", NIXOS_INSTALL.read_text(), 0o755)
    wrapper = INSTALL_WRAPPER.replace("@nixosInstall@", "/usr/lib/holdfast/nixos-install")
    _write(tree / "usr/bin/nixos-install", wrapper.replace("@carryOver@", "/usr/lib/holdfast/carry-over.sh"), 0o755)
    release = (tree / "usr/lib/os-release").read_text()
    _write(tree / "usr/lib/os-release", release + OS_RELEASE.format(image_id=NAME), 0o644)
    _write(tree / "etc/machine-id", "", 0o444)  # empty, not absent: this is no first boot
    _write(tree / "etc/hostname", "installer\n", 0o644)
    _write(tree / "etc/fstab", "", 0o644)
    (tree / "etc/resolv.conf").unlink(
        missing_ok=True
    )  # mmdebstrap copies this machine's; the installer writes the origin's


def _keep_modules(tree: Path, modules: Path, wanted: tuple[str, ...]) -> None:
    """Keep the kernel modules that the installer needs, unpacked, with what they depend on."""
    depmod = ["chroot", str(tree), "/usr/sbin/depmod", modules.name]
    subprocess.run(depmod, check=True)
    depends: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[path] = needs.split()
    kept: set[str] = set()
    for path, others in depends.items():
        if Path(path).name.removesuffix(".ko.xz") in wanted:
            kept |= {path, *others}
    for path in depends:
        packed = modules / path
        if path in kept:
            packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    subprocess.run(depmod, check=True)


def _pack_initrd(tree: Path, initrd: Path) -> None:
    """Pack the tree; its top folder's mode becomes that of the installer's root."""
    tree.chmod(0o755)
    names = "\n".join([".", *_walk(tree, tree)]) + "\n"
    with initrd.open("wb") as out:
        pack = ["cpio", "-o", "-H", "newc", "--quiet", "--reproducible"]
        with subprocess.Popen(["zstd", "-T0", "-19", "-q"], stdin=subprocess.PIPE, stdout=out) as squeeze:
            subprocess.run(pack, cwd=tree, input=names.encode(), stdout=squeeze.stdin, check=True)
            assert squeeze.stdin
            squeeze.stdin.close()
        if squeeze.returncode:
            raise RuntimeError("zstd could not compress the initrd")


def _walk(folder: Path, tree: Path) -> Iterable[str]:
    """Name everything below the folder, each folder before what is in it."""
    for path in sorted(folder.iterdir()):
        yield path.relative_to(tree).as_posix()
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, tree)


def _write(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)
