"""The lab's origin: the disk of a Debian 12 machine, made without a mount or a loop device.

The disk boots by itself (BIOS, syslinux). The machine has a static address, accepts the lab's key for root and for a
sudo user, and has a tailscaled as Debian's package sets it up, not logged in yet.
"""

import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

from lab import qemu, toolchain
from lab.cache import Part
from lab.debian import make_tree
from lab.lists import entries

SUITE = "bookworm"
HOST_NAME = "cottage"
USER = "admin"
DISK_BYTES = 3 << 30
BOOT_START_BYTES = 1 << 20
BOOT_BYTES = 64 << 20
ROOT_START_BYTES = BOOT_START_BYTES + BOOT_BYTES

PACKAGES = entries(Path(__file__).with_name("origin-packages.txt"))
MASKED = entries(Path(__file__).with_name("origin-masked.txt"))

INITRD_MODULES = "virtio_pci\nvirtio_blk\next4\ncrc32c\n"
"""All that the initrd needs here. Debian's default has every driver, and boots seconds slower without KVM."""

COMMAND_LINE = "root=LABEL=origin-root ro console=ttyS0 panic=30 quiet"

FILES = {
    "etc/hostname": f"{HOST_NAME}\n",
    "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {HOST_NAME}\n",
    "etc/fstab": "LABEL=origin-root / ext4 errors=remount-ro 0 1\nLABEL=ORIGINBOOT /boot vfat umask=0077 0 0\n",
    "etc/resolv.conf": f"search {HOST_NAME}.home.arpa\nnameserver {qemu.DNS_ADDRESS}\n",
    "etc/systemd/network/10-static.network": (
        "[Match]\nName=en*\n\n"
        f"[Network]\nAddress={qemu.GUEST_ADDRESS}/24\nGateway={qemu.HOST_ADDRESS}\nDNS={qemu.DNS_ADDRESS}\n"
        "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    ),
    "etc/default/tailscaled": 'PORT="41641"\nFLAGS=""\n',
    "etc/systemd/system/tailscaled.service.d/lab.conf": (
        "[Service]\nEnvironment=TS_NO_LOGS_NO_SUPPORT=true TS_DISABLE_PORTMAPPER=true\n"
    ),
    "lib/systemd/system/tailscaled.service": """\
[Unit]
Description=Tailscale node agent
Wants=network-pre.target
After=network-pre.target systemd-networkd.service

[Service]
Type=notify
EnvironmentFile=/etc/default/tailscaled
ExecStart=/usr/sbin/tailscaled --state=/var/lib/tailscale/tailscaled.state \
--socket=/run/tailscale/tailscaled.sock --port=${PORT} $FLAGS
ExecStopPost=/usr/sbin/tailscaled --cleanup
Restart=on-failure
RuntimeDirectory=tailscale
RuntimeDirectoryMode=0755
StateDirectory=tailscale
StateDirectoryMode=0700

[Install]
WantedBy=multi-user.target
""",
}

BOOT_LOADER = f"DEFAULT debian\nLABEL debian\n  LINUX vmlinuz\n  INITRD initrd.img\n  APPEND {COMMAND_LINE}\n"


def debian_tree() -> Path:
    """Return the unpacked Debian that the origin's disk starts from."""
    hook = (
        'd="$1/usr/share/initramfs-tools"; mkdir -p "$d/conf.d" "$d/modules.d"; '
        f'echo MODULES=list >"$d/conf.d/lab"; printf "{INITRD_MODULES}" >"$d/modules.d/lab"'
    )
    hooks = [
        f"--essential-hook={hook}",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
    ]
    folder = toolchain.built(
        "origin-debian",
        [*PACKAGES, *hooks],
        lambda into: make_tree(SUITE, PACKAGES, into / "tree", hooks=hooks),
        about="90 s",
    )
    return folder / "tree"


def disk() -> Path:
    """Return a folder with `origin.img` (raw), `operator_key`, `operator_key.pub` and `host_key.pub`."""
    parts: list[Part] = [Path(__file__), MASKED, debian_tree().parent.name, toolchain.small_tailscaled().parent.name]
    return toolchain.built("origin-disk", parts, _make_disk, about="15 s")


def _make_disk(into: Path) -> None:
    key = into / "operator_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(key)], check=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".tree-") as work:
        tree = Path(work) / "root"
        boot = Path(work) / "boot"
        subprocess.run(["cp", "-a", "--reflink=auto", str(debian_tree()), str(tree)], check=True)
        _furnish(tree, key.with_suffix(".pub"))
        shutil.copy(tree / "etc/ssh/ssh_host_ed25519_key.pub", into / "host_key.pub")
        _empty_boot(tree, boot)
        _assemble(into / "origin.img", tree, boot)


def _furnish(tree: Path, key: Path) -> None:
    """Turn a plain Debian tree into the origin's root file system."""
    for name, text in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    (tree / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
    shutil.copy(toolchain.small_tailscaled(), tree / "usr/sbin/tailscaled")
    (tree / "usr/bin/tailscale").symlink_to("../sbin/tailscaled")
    _in_tree(tree, "useradd", "--create-home", "--shell", "/bin/bash", USER)
    sudoers = tree / "etc/sudoers.d" / USER
    sudoers.write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    for home, owner in ((tree / "root", "root"), (tree / "home" / USER, USER)):
        folder = home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(key, folder / "authorized_keys")
        inside = f"/{folder.relative_to(tree)}"
        _in_tree(tree, "chown", "-R", f"{owner}:{owner}", inside)
    _in_tree(tree, "systemctl", "enable", "tailscaled.service", "systemd-networkd.service")
    _in_tree(tree, "systemctl", "disable", "systemd-networkd-wait-online.service")
    _in_tree(tree, "systemctl", "mask", *MASKED)


def _in_tree(tree: Path, *command: str) -> None:
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.run(["chroot", str(tree), *command], check=True, env=path, stderr=subprocess.DEVNULL)


def _empty_boot(tree: Path, boot: Path) -> None:
    """Move the kernel and its initrd out of the tree, into a folder with the boot partition's files."""
    boot.mkdir()
    for name in ("vmlinuz", "initrd.img"):
        (versioned,) = (tree / "boot").glob(f"{name}-*")
        shutil.move(versioned, boot / name)
    (boot / "syslinux.cfg").write_text(BOOT_LOADER)
    for rest in (tree / "boot").iterdir():
        rest.unlink()


def _assemble(image: Path, tree: Path, boot: Path) -> None:
    """Write partition table, boot loader, boot and root file systems into a raw disk image."""
    with image.open("wb") as raw:
        raw.truncate(DISK_BYTES)
    table = (
        f"label: dos\nstart={BOOT_START_BYTES // 512}, size={BOOT_BYTES // 512}, type=c, bootable\n"
        f"start={ROOT_START_BYTES // 512}, type=83\n"
    )
    _run("sfdisk", "--quiet", str(image), stdin=table)
    loader = Path("/usr/lib/syslinux/mbr/mbr.bin").read_bytes()
    with image.open("r+b") as raw:
        raw.write(loader)
    blocks = str(BOOT_BYTES // 1024)
    _run("mkfs.vfat", "-F", "16", "-n", "ORIGINBOOT", "--offset", str(BOOT_START_BYTES // 512), str(image), blocks)
    files = [str(file) for file in boot.iterdir()]
    _run("mcopy", "-i", f"{image}@@{BOOT_START_BYTES}", *files, "::")
    _run("syslinux", "--install", "--offset", str(BOOT_START_BYTES), str(image))
    root_kib = f"{(DISK_BYTES - ROOT_START_BYTES) // 1024}k"
    options = ["-q", "-F", "-t", "ext4", "-L", "origin-root", "-E", f"offset={ROOT_START_BYTES}"]
    _run("mke2fs", *options, "-d", str(tree), str(image), root_kib)


def _run(*command: str, stdin: str | None = None) -> None:
    """Run a tool, and show its output only if it fails: mkfs.vfat warns about every offset."""
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
