"""The lab's final system: the flake that stands in for the user's, and the Debian files it is built from.

`flake/` is the flake, without its inputs: Nix builds with a static busybox, from archives that are packed here. What
it gives has the names of a NixOS flake with disko. `nixos-install` is what the lab's installer has under that name.
"""

import lzma
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from lab.debian import make_tree
from lab.image import SANDBOX, UDEV_RULES
from lab.toolchain import built, small_tailscaled

FLAKE = Path(__file__).parent / "flake"

SUITE = "trixie"
PACKAGES = (
    "base-files", "busybox-static", "dash", "extlinux", "iproute2", "kmod", "liblzma5",
    "linux-image-cloud-amd64", "openssh-server", "syslinux-common", "systemd", "udev", "util-linux",
)  # fmt: skip

PROGRAMS = (
    *(f"usr/bin/{name}" for name in ("findmnt", "ip", "journalctl", "lsblk", "mount", "mountpoint", "sh")),
    *(f"usr/bin/{name}" for name in ("ssh-keygen", "systemctl", "systemd-run", "systemd-tmpfiles", "udevadm")),
    *(f"usr/bin/{name}" for name in ("networkctl", "systemd-detect-virt", "umount")),
    *(f"usr/lib/openssh/{name}" for name in ("sftp-server", "sshd-auth", "sshd-session")),
    *(f"usr/lib/systemd/systemd{name}" for name in ("", "-executor", "-journald", "-networkd", "-shutdown")),
    "usr/lib/systemd/system-generators/systemd-debug-generator",
    *(f"usr/lib/systemd/systemd-{name}" for name in ("random-seed", "remount-fs", "sysctl", "udevd")),
    "usr/sbin/sshd",
)
"""What busybox lacks, or has in a form that other people's scripts would trip over; the rest is busybox."""

OPENED = ("libblkid.so.1", "libmount.so.1", "libseccomp.so.2", "libselinux.so.1", "libzstd.so.1")
"""Libraries that systemd opens when it runs; no program lists them."""

FILES = (
    *("usr/lib/tmpfiles.d/tmp.conf", "usr/lib/tmpfiles.d/var.conf"),
    *(f"usr/lib/udev/rules.d/{name}" for name in UDEV_RULES),
)

UNITS = (
    *("*.slice", "*.target", "tmp.mount", "systemd-journal-flush.service", "systemd-journald.service"),
    *("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-networkd.service"),
    *("systemd-networkd.socket", "systemd-random-seed.service", "systemd-remount-fs.service"),
    *("systemd-tmpfiles-setup.service", "systemd-udevd.service", "systemd-udevd-*.socket"),
    *("systemd-udev-trigger.service", "systemd-halt.service", "systemd-kexec.service"),
    *("systemd-poweroff.service", "systemd-reboot.service"),
)
"""The few units that this system runs, of those that Debian has; the links to the others go too."""

MODULES = (
    *("virtio_blk", "virtio_net", "virtio_rng", "tun", "vfat", "nls_cp437", "nls_ascii", "nf_tables", "nft_compat"),
    *("nft_chain_nat", "nft_ct", "xt_mark", "xt_MASQUERADE", "xt_conntrack", "xt_tcpudp", "xt_connmark"),
)
"""All of them are loaded by the initrd: the system itself loads none."""


def flake_dir(run_dir: Path) -> Path:
    """Write the flake with its inputs into the lab's folder, and return it: `path:FOLDER#cottage`.

    Args:
        run_dir: the lab's folder of this checkout, with the `operator_key` that root will let in; its `flake` is
            replaced.

    """
    flake = run_dir.resolve() / "flake"
    if flake.exists():
        shutil.rmtree(flake)
    shutil.copytree(FLAKE, flake, symlinks=True)
    shutil.copytree(inputs(), flake / "inputs")
    shutil.copy(small_tailscaled(), flake / "inputs" / "tailscaled")
    public = ["ssh-keygen", "-y", "-f", str(run_dir / "operator_key")]
    with (flake / "inputs" / "authorized_keys").open("wb") as keys:
        subprocess.run(public, check=True, stdout=keys)
    return flake


def inputs() -> Path:
    """Return a folder with what Debian gives: `busybox/busybox`, and userland, kernel and bootloader as `.tar`."""
    parts: list[str | Path] = [Path(__file__), SUITE, *PACKAGES, *UDEV_RULES, SANDBOX.pattern]
    return built("final-inputs", parts, _make_inputs, about="20 s")


def _make_inputs(into: Path) -> None:
    tree = into / "tree"
    make_tree(SUITE, PACKAGES, tree, variant="extract")
    (into / "busybox").mkdir()
    shutil.copy(tree / "usr/bin/busybox", into / "busybox" / "busybox")
    _pack_bootloader(tree, into / "bootloader.tar")
    _pack_kernel(tree, into / "kernel.tar", into / "modules")
    _pack_userland(tree, into / "userland.tar")
    shutil.rmtree(tree)


def _pack_bootloader(tree: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as packed:
        packed.add(tree / "usr/bin/extlinux", "extlinux")
        packed.add(tree / "usr/lib/syslinux/mbr/mbr.bin", "mbr.bin")


def _pack_kernel(tree: Path, archive: Path, modules: Path) -> None:
    """Pack the kernel, its modules unpacked, and `modules/order`, in which each comes after what it needs."""
    [kernel] = (tree / "boot").glob("vmlinuz-*")
    release = kernel.name.removeprefix("vmlinuz-")
    modules.mkdir()
    _in_tree(tree, "depmod", release)
    found = _in_tree(tree, "modprobe", "--set-version", release, "--show-depends", "--all", *MODULES)
    paths = dict.fromkeys(re.findall(r"^insmod (\S+)", found, re.MULTILINE))
    for path in paths:
        packed = tree / path.removeprefix("/")
        (modules / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
    (modules / "order").write_text("".join(f"{Path(path).stem}\n" for path in paths))
    with tarfile.open(archive, "w") as packed_all:
        packed_all.add(kernel, "bzImage")
        packed_all.add(modules, "modules")
    shutil.rmtree(modules)


def _pack_userland(tree: Path, archive: Path) -> None:
    """Pack the listed programs, files and units, and the libraries that the programs need."""
    units = tree / "usr/lib/systemd/system"
    for unit in units.glob("*.service"):
        if not unit.is_symlink():
            unit.write_text(SANDBOX.sub("", unit.read_text()))
    kept = [path for pattern in UNITS for path in units.glob(pattern)]
    kept += [wanted for wanted in units.glob("*.wants/*") if (units / wanted.name) in kept]
    with tarfile.open(archive, "w") as packed:
        for name in dict.fromkeys((*PROGRAMS, *FILES, *_libraries(tree))):
            _add(packed, tree, name)
        for path in kept:
            _add(packed, tree, path.relative_to(tree).as_posix())


def _add(packed: tarfile.TarFile, tree: Path, name: str) -> None:
    """Add a file, and what it leads to inside the tree if it is a link."""
    path = tree / name
    packed.add(path, name, recursive=False)
    if path.is_symlink() and not path.readlink().is_absolute():
        _add(packed, tree, path.parent.joinpath(path.readlink()).resolve().relative_to(tree.resolve()).as_posix())


def _libraries(tree: Path) -> Iterable[str]:
    """Name the loader, the libraries that the programs are linked with, and those that they open later."""
    multiarch = "usr/lib/x86_64-linux-gnu"
    yield "usr/lib64/ld-linux-x86-64.so.2"
    programs = [*(f"/{name}" for name in PROGRAMS), "/usr/bin/extlinux"]
    programs += [f"/{multiarch}/{name}" for name in OPENED]
    listed = "".join(_in_tree(tree, "/lib64/ld-linux-x86-64.so.2", "--list", program) for program in programs)
    for library in sorted(set(re.findall(r"=> (/\S+)", listed))):
        yield (tree / library[1:]).parent.resolve().relative_to(tree.resolve()).joinpath(Path(library).name).as_posix()
    yield from (f"{multiarch}/{name}" for name in OPENED)


def _in_tree(tree: Path, *command: str) -> str:
    path = {"PATH": "/usr/sbin:/usr/bin"}
    said = subprocess.run(["chroot", str(tree), *command], check=True, env=path, stdout=subprocess.PIPE, text=True)
    return said.stdout
