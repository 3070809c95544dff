"""The lab's origin as if it were Alpine: busybox alone as userland and as PID 1, no systemd, no udev, no lsblk.

A stand-in, for there are no packages of Alpine here: the kernel, its initrd and sshd are Debian's, busybox is Debian's
static one, and a script that starts services by their runlevels stands for OpenRC. `files/` is copied as it is. The
disk is the joined origin's, with another root: the boot partition, the SSH host keys, the machine-id and the Tailscale
state stay, so it is the same node.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from lab import origin, qemu
from lab.cache import Part
from lab.debian import make_tree
from lab.joined import joined_pair
from lab.lists import entries
from lab.toolchain import built, small_tailscaled

HERE: Final = Path(__file__).parent
FILES: Final = HERE / "files"
PACKAGES: Final = ("busybox-static",)
FOLDERS: Final = entries(HERE / "folders.txt")
RUNLEVELS: Final = {
    "sysinit": ("devfs",),
    "boot": ("hostname", "localmount", "modules", "networking"),
    "default": ("sshd", "tailscale"),
    "shutdown": ("killprocs", "mount-ro"),
}
INTERFACES: Final = (
    "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n"
    f"\taddress {qemu.GUEST_ADDRESS}\n\tnetmask 255.255.255.0\n\tgateway {qemu.HOST_ADDRESS}\n"
)
KEPT: Final = ("/var/lib/tailscale", "/etc/ssh")
"""Folders of the joined origin that make it the same node. Of /etc/ssh only the host keys are taken."""


def disk() -> Path:
    """Return the origin's disk, a qcow2: it is the same node on the same tailnet as that of `joined_pair`."""
    parts: list[Part] = [joined_pair().name, Path(__file__), FILES, FOLDERS, PACKAGES, origin.debian_tree().parent.name]
    parts += [small_tailscaled().parent.name]
    return built("origin-alpine", parts, _make_disk, about="60 s") / "origin.qcow2"


def _make_disk(into: Path) -> None:
    raw = into / "origin.img"
    qemu.convert(joined_pair() / "origin.qcow2", "qcow2", raw, "raw")
    with tempfile.TemporaryDirectory(dir=into, prefix=".tree-") as work:
        tree = Path(work) / "root"
        make_root(tree, _busybox(Path(work) / "busybox"))
        _keep_node(raw, Path(work), tree)
        _write_root(raw, tree)
    qemu.convert(raw, "raw", into / "origin.qcow2", "qcow2")
    raw.unlink()


def _write_root(raw: Path, tree: Path) -> None:
    """Replace the disk's root file system; its label stays, by which the initrd finds it."""
    size = f"{(origin.DISK_BYTES - origin.ROOT_START_BYTES) // 1024}k"
    options = ["-q", "-F", "-t", "ext4", "-L", "origin-root", "-E", f"offset={origin.ROOT_START_BYTES}"]
    subprocess.run(["mke2fs", *options, "-d", str(tree), str(raw), size], check=True, capture_output=True)


def _busybox(into: Path) -> Path:
    make_tree(origin.SUITE, PACKAGES, into, variant="extract")
    return next(path for name in ("bin", "usr/bin") if (path := into / name / "busybox").is_file())


def make_root(tree: Path, busybox: Path) -> None:
    """Fill a new folder with the origin's root file system, but for what makes it a node.

    Args:
        tree: the folder.
        busybox: a static busybox.

    """
    shutil.copytree(FILES, tree)
    for name in FOLDERS:
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name, mode in (("root", 0o700), ("root/.ssh", 0o700), ("tmp", 0o1777), ("run", 0o755)):
        (tree / name).mkdir()
        (tree / name).chmod(mode)
    (tree / "var/run").symlink_to("/run")
    (tree / "etc/shadow").chmod(0o640)
    for name in ("etc/hostname", "etc/hosts", "etc/resolv.conf"):
        (tree / name).write_text(origin.FILES[name])
    (tree / "etc/network/interfaces").write_text(INTERFACES)
    for runlevel, services in RUNLEVELS.items():
        folder = tree / "etc/runlevels" / runlevel
        folder.mkdir(parents=True)
        for service in services:
            (folder / service).symlink_to(f"/etc/init.d/{service}")
    _add_sshd(tree)
    shutil.copytree(origin.debian_tree() / "usr/lib/modules", tree / "lib/modules")
    shutil.copy(small_tailscaled(), tree / "usr/sbin/tailscaled")
    (tree / "usr/bin/tailscale").symlink_to("../sbin/tailscaled")
    shutil.copy(busybox, tree / "bin/busybox")
    # The links come last: they replace nothing that is there.
    subprocess.run(["chroot", str(tree), "/bin/busybox", "--install", "-s"], check=True)


def _add_sshd(tree: Path) -> None:
    """Put Debian's sshd in place, with its loader and the libraries that it is linked with."""
    debian = origin.debian_tree()
    loader = "/lib64/ld-linux-x86-64.so.2"
    listing = ["chroot", str(debian), loader, "--list", "/usr/sbin/sshd"]
    listed = subprocess.run(listing, check=True, stdout=subprocess.PIPE, text=True).stdout
    libraries = sorted(set(re.findall(r"=> (/lib/\S+)", listed)))
    for name in (loader, "/usr/sbin/sshd", *libraries):
        place = tree / name[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(debian / name[1:], place)


def _keep_node(raw: Path, work: Path, tree: Path) -> None:
    """Take from the joined origin what makes it the node that it is, and the keys that may log in."""
    image = f"{raw}?offset={origin.ROOT_START_BYTES}"
    kept = work / "kept"
    kept.mkdir()
    wanted = [f"rdump {folder} {kept}" for folder in KEPT]
    wanted += [f"dump /etc/machine-id {kept}/machine-id", f"dump /root/.ssh/authorized_keys {kept}/authorized_keys"]
    for command in wanted:
        subprocess.run(["debugfs", "-R", command, image], check=True, capture_output=True)
    shutil.copytree(kept / "tailscale", tree / "var/lib/tailscale")
    for key in (kept / "ssh").glob("ssh_host_*"):
        shutil.copy(key, tree / "etc/ssh" / key.name)
    shutil.copy(kept / "machine-id", tree / "etc/machine-id")
    shutil.copy(kept / "authorized_keys", tree / "root/.ssh/authorized_keys")
    (tree / "root/.ssh/authorized_keys").chmod(0o600)
