"""The lab's installer image: what nixos-images ships, assembled from Debian packages instead of NixOS.

The tarball holds `kexec/run` (`nix/scripts/origin/kexec-run.sh`), `kexec/kexec`, `kexec/ip`, `kexec/bzImage` and
`kexec/initrd`, and `kexec/lib/`: Debian's kexec and ip are not static, so the two are wrappers that start the
real ones with their own loader and libraries, whatever the origin has. The initrd is a whole Debian 13 with
systemd, sshd, tailscaled and Nix that runs from RAM.
"""

import lzma
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from holdfast.base.settings import script
from lab.cache import cached
from lab.debian import make_tree
from lab.toolchain import announce, small_tailscaled

NAME = "holdfast-kexec-installer-lab-x86_64-linux"
SUITE = "trixie"
DEAD_MAN_S = 900
"""The image's own dead-man deadline, when `kexec/run` is told none."""

KERNEL_PARAMS = "console=ttyS0 panic=30 quiet net.ifnames=0 lsm=capability systemd.show_status=false"
FILES = Path(__file__).parent / "image"
RUN_SCRIPT = script("origin/kexec-run.sh")
GENERATOR = script("installer/dead-man-generator.sh")
GUEST_SCRIPTS = {
    f"{name}.sh": script(f"installer/{name}.sh")
    for name in ("installer-restore", "restore-network", "tailscale-prefs", "carry-over", "dead-man")
}
INSTALL_WRAPPER = script("installer/nixos-install.sh")
NIXOS_INSTALL = Path(__file__).parent / "final" / "nixos-install"

PACKAGES = (
    *(
        "base-files",
        "base-passwd",
        "bash",
        "coreutils",
        "dash",
        "findutils",
        "grep",
        "gzip",
        "hostname",
        "mawk",
    ),
    *("libc-bin", "libnss-systemd", "netbase", "procps", "sed", "tar", "util-linux"),
    *("kmod", "linux-image-cloud-amd64", "mount", "systemd", "systemd-sysv", "udev"),
    *("iproute2", "iptables", "jq", "kexec-tools", "nix-bin", "openssh-server", "openssh-client"),
    *("dosfstools", "e2fsprogs", "extlinux", "fdisk", "syslinux-common"),
)

MODULES = (
    *("virtio_net", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_rng", "tun", "loop", "vfat"),
    *(
        "nls_cp437",
        "nls_ascii",
        "nls_iso8859-1",
        "nls_utf8",
        "nf_tables",
        "nft_compat",
        "nft_chain_nat",
        "nft_ct",
    ),
    *("xt_mark", "xt_MASQUERADE", "xt_conntrack", "xt_tcpudp", "xt_connmark", "xt_comment", "xt_addrtype"),
)

UDEV_RULES = (
    "50-udev-default.rules",
    "60-block.rules",
    "60-persistent-storage.rules",
    "80-drivers.rules",
    "80-net-setup-link.rules",
    "99-systemd.rules",
)
"""The few rules that the installer needs; /dev/disk/by-id comes from `60-persistent-storage.rules`."""

WANTED = {
    "sysinit.target": (
        "holdfast-deadman.timer",
        "holdfast-network.service",
        "holdfast-restore.service",
        "systemd-journald.service",
        "systemd-modules-load.service",
        "systemd-udev-trigger.service",
        "systemd-udevd.service",
    ),
    "sockets.target": (
        "systemd-journald-dev-log.socket",
        "systemd-journald.socket",
        "systemd-udevd-control.socket",
        "systemd-udevd-kernel.socket",
    ),
    "basic.target": ("ssh.service", "systemd-networkd.service", "tailscaled.service"),
    "tailscaled.service": ("holdfast-tailscale-prefs.service",),
}
"""The units that start. systemd's own lists are emptied: what they bring costs seconds without KVM."""

DROPPED = (
    *("boot", "etc/systemd/system/multi-user.target.wants", "usr/include", "usr/src", "var/cache", "var/log"),
    "var/run",
    *(
        "usr/share/bash-completion",
        "usr/share/bug",
        "usr/share/doc",
        "usr/share/info",
        "usr/share/initramfs-tools",
    ),
    *(
        "usr/share/lintian",
        "usr/share/locale",
        "usr/share/man",
        "usr/share/perl",
        "usr/share/perl5",
        "usr/share/zsh",
    ),
    *("usr/share/zoneinfo", "usr/share/fish", "usr/share/i18n", "usr/share/iptables", "usr/share/polkit-1"),
    *("usr/lib/udev/hwdb.d", "usr/lib/klibc", "usr/lib/xen-4.20", "usr/lib/locale", "usr/lib/dracut"),
    *("usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/perl5"),
    *(
        "usr/lib/x86_64-linux-gnu/perl-base",
        "usr/lib/x86_64-linux-gnu/security",
        "usr/lib/apt",
        "usr/lib/dpkg",
    ),
    *("usr/lib/systemd/system-generators", "usr/lib/systemd/user", "usr/lib/systemd/user-generators"),
    *("usr/lib/systemd/catalog", "usr/lib/systemd/boot", "usr/lib/klibc", "usr/lib/syslinux/modules/efi32"),
    *("usr/lib/syslinux/modules/efi64", "usr/share/syslinux", "var/lib/apt", "var/lib/dpkg", "usr/share/gdb"),
    *("usr/bin/ssh", "usr/bin/ssh-add", "usr/bin/ssh-agent", "usr/bin/ssh-keyscan", "etc/ssh/moduli"),
    *("usr/lib/systemd/system/sys-fs-fuse-connections.mount", "usr/lib/systemd/system/tmp.mount"),
    *("usr/lib/systemd/system/sys-kernel-config.mount", "usr/lib/systemd/system/run-lock.mount"),
    "usr/lib/systemd/system/systemd-networkd-persistent-storage.service",
    "usr/lib/systemd/system/systemd-udev-load-credentials.service",
    *("usr/bin/bash-static", "usr/bin/pzstd", "usr/sbin/ldconfig.real"),
)
DROPPED_GLOBS = (
    *(
        "usr/bin/perl*",
        "usr/bin/cpan*",
        "usr/bin/*dpkg*",
        "usr/bin/apt*",
        "usr/lib/x86_64-linux-gnu/libperl*",
    ),
    *(
        *(f"usr/lib/x86_64-linux-gnu/libxen{name}*" for name in ("gu", "h", "l", "s", "v")),  # not kexec's
        "usr/lib/x86_64-linux-gnu/libapt-*",
        "usr/lib/x86_64-linux-gnu/libdb-*",
    ),
    *("usr/lib/x86_64-linux-gnu/libfsimage*", "usr/lib/x86_64-linux-gnu/libmvec*"),
    *("usr/lib/systemd/system/*.wants", "usr/share/syslinux/*.c32"),
)

SANDBOX = re.compile(
    r"^(SystemCall\w+|Restrict\w+|MemoryDenyWriteExecute|Protect\w+|Private\w+|LockPersonality|IPAddressDeny"
    r"|CapabilityBoundingSet|NoNewPrivileges|DeviceAllow|WatchdogSec)=.*\n",
    re.MULTILINE,
)
"""Sandboxes of systemd's own services. Their filters are compiled at each start: seconds without KVM."""

ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
    "systemd-network:x:998:998::/:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
    "shadow": "root:*:20000::::::\nsshd:!:20000::::::\nsystemd-network:!:20000::::::\nnobody:!:20000::::::\n",
    "group": "root:x:0:\ntty:x:5:\ndisk:x:6:\nkmem:x:15:\ndialout:x:20:\ncdrom:x:24:\naudio:x:29:\n"
    "video:x:44:\ninput:x:101:\nsgx:x:102:\nkvm:x:103:\nrender:x:104:\ntape:x:26:\nlp:x:7:\nclock:x:105:\n"
    "systemd-journal:x:106:\nsystemd-network:x:998:\nnogroup:x:65534:\n",
}

OS_RELEASE = 'ID_LIKE=nixos\nVARIANT="Holdfast lab installer"\nVARIANT_ID=installer\nIMAGE_ID={image_id}\n'
"""nixos-anywhere takes a system for an installer by `ID_LIKE` and `VARIANT_ID` (its src/get-facts.sh)."""

WRAPPER = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/lib/ld-linux-x86-64.so.2" --library-path "$here/lib" "$here/lib/{name}" "$@"
"""


def installer_image() -> Path:
    """Return the image's tarball, `NAME.tar`, built once for each version of what it is made of.

    It is not compressed, as that of `nix/kexec-tailscale.nix`. Needs root, and `cpio`, `zstd` and `mmdebstrap` on the
    host.
    """
    return image_folder() / f"{NAME}.tar"


def image_folder() -> Path:
    """Return the folder with the tarball and, for booting it without kexec, with `kexec/` unpacked."""
    tailscaled = small_tailscaled()
    parts: list[str | Path] = [SUITE, *PACKAGES, Path(__file__), FILES, *GUEST_SCRIPTS.values(), RUN_SCRIPT]
    parts += [GENERATOR, INSTALL_WRAPPER, NIXOS_INSTALL, str(tailscaled)]

    def build(into: Path) -> None:
        announce("building the installer image (about 1 min) …")
        tree = into / "tree"
        make_tree(SUITE, PACKAGES, tree, variant="extract")
        _make_kexec_folder(tree, into / "kexec")
        _make_installer(tree, tailscaled)
        _pack_initrd(tree, into / "kexec" / "initrd")
        shutil.rmtree(tree)
        subprocess.run(["tar", "-C", str(into), "-cf", str(into / f"{NAME}.tar"), "kexec"], check=True)

    return cached("installer-image", parts, build)


def _make_kexec_folder(tree: Path, kexec: Path) -> None:
    """Fill `kexec/` with all but the initrd."""
    libraries = kexec / "lib"
    libraries.mkdir(parents=True)
    [kernel] = (tree / "boot").glob("vmlinuz-*")
    shutil.copy(kernel, kexec / "bzImage")
    loader = tree / "usr/lib64/ld-linux-x86-64.so.2"
    shutil.copy(loader, libraries)
    for program in (tree / "usr/sbin/kexec", tree / "usr/bin/ip"):
        shutil.copy(program, libraries)
        listing = [
            str(loader),
            "--library-path",
            str(tree / "usr/lib/x86_64-linux-gnu"),
            "--list",
            str(program),
        ]
        needed = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
        for library in re.findall(r"=> (\S+/lib/x86_64-linux-gnu/\S+)", needed):
            shutil.copy(library, libraries)
        _write(kexec / program.name, WRAPPER.format(name=program.name), 0o755)
    _write(kexec / "run", RUN_SCRIPT.replace("@init@", "/init").replace("@kernelParams@", KERNEL_PARAMS), 0o755)


def _make_installer(tree: Path, tailscaled: Path) -> None:
    """Turn the unpacked packages into a system that boots from RAM."""
    modules = next((tree / "usr/lib/modules").iterdir())
    _keep_modules(tree, modules)
    for path in [tree / name for name in DROPPED] + [p for g in DROPPED_GLOBS for p in tree.glob(g)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for rule in (tree / "usr/lib/udev/rules.d").iterdir():
        if rule.name not in UDEV_RULES:
            rule.unlink()
    for unit in (tree / "usr/lib/systemd/system").glob("*.service"):
        if not unit.is_symlink():
            unit.write_text(SANDBOX.sub("", unit.read_text()))
    for name, text in ACCOUNTS.items():
        _write(tree / "etc" / name, text, 0o640 if name == "shadow" else 0o644)
    for folder in ("var/log", "var/cache", "var/tmp", "mnt", "etc/holdfast/standby"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    _install_files(tree, tailscaled)
    for target, units in WANTED.items():
        wants = tree / f"etc/systemd/system/{target}.wants"
        wants.mkdir()
        for name in units:
            ours = tree / "etc/systemd/system" / name
            folder = "/etc/systemd/system" if ours.exists() else "/usr/lib/systemd/system"
            (wants / name).symlink_to(f"{folder}/{name}")
    links = {
        "etc/systemd/system/default.target": "/usr/lib/systemd/system/multi-user.target",
        "usr/bin/awk": "mawk",
        "usr/sbin/iptables": "xtables-nft-multi",
        "usr/sbin/ip6tables": "xtables-nft-multi",
        "usr/bin/tailscale": "../sbin/tailscaled",
        # what standby.sh takes, which boots by BIOS here
        "etc/holdfast/standby/extlinux": "/usr/bin/extlinux",
        "etc/holdfast/standby/mbr.bin": "/usr/lib/syslinux/mbr/mbr.bin",
        "etc/holdfast/standby/gptmbr.bin": "/usr/lib/syslinux/mbr/gptmbr.bin",
        "var/run": "/run",  # base-files makes it when it is configured; tailscale looks there for its socket
    }
    for link, target_name in links.items():
        (tree / link).unlink(missing_ok=True)
        (tree / link).symlink_to(target_name)
    subprocess.run(["chroot", str(tree), "/usr/sbin/ldconfig"], check=True)


def _install_files(tree: Path, tailscaled: Path) -> None:
    """Put the scripts, the lab's own files and Tailscale in place."""
    shutil.copytree(FILES, tree, dirs_exist_ok=True)
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
    _write(tree / "usr/lib/os-release", release + OS_RELEASE.format(image_id=f"{NAME}"), 0o644)
    _write(tree / "etc/machine-id", "", 0o444)  # empty, not absent: this is no first boot
    _write(tree / "etc/hostname", "installer\n", 0o644)
    _write(tree / "etc/fstab", "", 0o644)
    (tree / "etc/resolv.conf").unlink(missing_ok=True)  # this machine's own; the installer writes the origin's


def _keep_modules(tree: Path, modules: Path) -> None:
    """Keep the kernel modules that the installer needs, unpacked, with what they depend on."""
    depmod = ["chroot", str(tree), "/usr/sbin/depmod", modules.name]
    subprocess.run(depmod, check=True)
    depends: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[path] = needs.split()
    kept: set[str] = set()
    for path, others in depends.items():
        if Path(path).name.removesuffix(".ko.xz") in MODULES:
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
