"""The kexec image, as nixos-images ships it: a tarball with `run`, `kexec`, `bzImage` and `initrd` in `kexec/`."""

import hashlib
import re
import struct
import tarfile
import zlib
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import Final

from holdfast.base.errors import ConfigError
from holdfast.base.size import MIB

MEMBERS: Final = ("kexec/run", "kexec/kexec", "kexec/bzImage", "kexec/initrd")
MAX_UNPACKED_BYTES: Final = 8 * 1024 * MIB
MAX_MEMBERS: Final = 10_000
MAX_RUN_BYTES: Final = MIB
KERNEL_HEADER_BYTES: Final = 0x240

_HINT: Final = "Build one with `nix build .#kexec-tailscale`, and name the tarball or the folder that holds it."


@dataclass(frozen=True, slots=True)
class Image:
    """A kexec image.

    Attributes:
        path: the tarball.
        sha256: its digest, in hexadecimal.
        size_bytes: its size.
        unpacked_bytes: the size of all its files together.
        arch: the architecture that it runs on, as in `uname -m`.
        kernel_bytes: size of its kernel.
        initrd_bytes: compressed size of its initrd.
        starter_bytes: size of its starter, with the stub for UEFI; 0 if it has none (nix/scripts/installer/starter.sh).
        takes_secrets: whether its `kexec/run` accepts secrets for the installer (`--secrets`).
        takes_login: whether it accepts the public key that logs in, and a host key from elsewhere (`--login-key`).
        keeps_standby: whether it can hand over the image itself, for the standby (`--keep-for-standby`).

    """

    path: Path
    sha256: str
    size_bytes: int
    unpacked_bytes: int
    arch: str
    kernel_bytes: int
    initrd_bytes: int
    starter_bytes: int
    takes_secrets: bool
    takes_login: bool
    keeps_standby: bool

    @property
    def needed_memory_bytes(self) -> int:
        """Memory (MemTotal) that the installer needs to run.

        While the kernel unpacks the initrd, both the packed and the unpacked one are in memory. A small initrd is a
        whole system that unpacks to three and a half times its size (measured: 39 MB to 134); beyond some 48 MiB it is
        a squashfs, which is packed already and stays as large (kexec-keep.sh counts the same). 96 MiB are for what
        runs. This fits what was measured with images of the lab (an initrd of 40 MB runs in 320 MiB of RAM and not in
        256, one of 48 MB in 512 and not in 288), and the 1 GB that nixos-images' README asks for its own of some 400
        MB.

        A small one unpacks into half of what is left beside the packed one: the kernel's first file system is a tmpfs
        (measured: 177 MiB of 399, 209 of 463, 335 of 714, beside one of 41 MB). Larger ones are NixOS', whose
        `root=fstab` makes it a ramfs, which has no limit. So the 320 MiB of above are refused now: computed, not run.
        """
        unpacked = self.initrd_bytes + 5 * min(self.initrd_bytes, 48 * MIB) // 2
        in_half = self.initrd_bytes + 2 * unpacked + 8 * MIB if self.initrd_bytes <= 48 * MIB else 0
        return max(self.initrd_bytes + unpacked + self.kernel_bytes + 96 * MIB, in_half)

    @property
    def needed_free_bytes(self) -> int:
        """Free memory, swap included, that loading needs: the kexec program reads the initrd, the kernel copies it."""
        return 2 * self.initrd_bytes + self.kernel_bytes + 16 * MIB

    @property
    def needed_disk_bytes(self) -> int:
        """Free space on the target's disk that the tarball and its content need."""
        return self.size_bytes + self.unpacked_bytes + 64 * MIB


def inspect_image(path: Path) -> Image:
    """Read an image without trusting it: nothing is unpacked to disk.

    Args:
        path: the tarball, or a folder with exactly one (such as `nix build` makes).

    Raises:
        ConfigError: it is missing, is not a tarball, lacks a part, or is for an unknown architecture.

    """
    tarball = _tarball(path)
    sizes: dict[str, int] = {}
    header = runner = b""
    try:
        with tarfile.open(tarball, mode="r|*") as tar:
            for count, member in enumerate(tar):
                name = member.name.removeprefix("./")
                if not member.isreg():
                    continue
                sizes[name] = member.size
                if count > MAX_MEMBERS or sum(sizes.values()) > MAX_UNPACKED_BYTES:
                    raise ConfigError(f"{tarball} is larger than any kexec image.", hint=_HINT)
                if name == "kexec/bzImage":
                    file = tar.extractfile(member)
                    header = file.read(KERNEL_HEADER_BYTES) if file else b""
                elif name == "kexec/run":
                    file = tar.extractfile(member)
                    runner = file.read(MAX_RUN_BYTES) if file else b""
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError, ValueError) as error:
        raise ConfigError(
            f"{tarball} is not a kexec image: it is not a tarball ({_said(error)}).", hint=_HINT
        ) from error
    missing = [name for name in MEMBERS if name not in sizes]
    if missing:
        raise ConfigError(f"{tarball} is not a kexec image: it has no {', no '.join(missing)}.", hint=_HINT)
    arch = kernel_arch(header)
    if not arch:
        raise ConfigError(f"{tarball} is not a kexec image: kexec/bzImage is not a known kernel.", hint=_HINT)
    return Image(
        path=tarball,
        sha256=_sha256(tarball),
        size_bytes=tarball.stat().st_size,
        unpacked_bytes=sum(sizes.values()),
        arch=arch,
        kernel_bytes=sizes["kexec/bzImage"],
        initrd_bytes=sizes["kexec/initrd"],
        starter_bytes=sizes.get("kexec/starter", 0) and sizes["kexec/starter"] + sizes.get("kexec/stub.efi", 0),
        takes_secrets=_takes(runner, b"--secrets"),
        takes_login=_takes(runner, b"--login-key"),
        keeps_standby=_takes(runner, b"--keep-for-standby"),
    )


def _takes(runner: bytes, flag: bytes) -> bool:
    return re.search(rb"^\s*" + flag + rb"\)\s", runner, re.MULTILINE) is not None


def kernel_arch(header: bytes) -> str:
    """Return a kernel's architecture, as in `uname -m`, from its first 576 bytes; empty if it is unknown.

    x86: the setup header `HdrS`, whose xloadflags say whether the kernel is 64-bit (Documentation/arch/x86/boot.rst).
    ARM and RISC-V: the magic numbers in their boot headers (Documentation/arch/{arm64,riscv}/).
    """
    if header[0x202:0x206] == b"HdrS" and len(header) > 0x237:
        (flags,) = struct.unpack_from("<H", header, 0x236)
        return "x86_64" if flags & 1 else "i686"
    if header[0x38:0x3C] == b"ARM\x64":
        return "aarch64"
    if header[0x38:0x3C] == b"RSC\x05":
        return "riscv64"
    return ""


def _tarball(path: Path) -> Path:
    if path.is_dir():
        found = sorted(path.glob("*.tar*")) + sorted(path.glob("*.tgz"))
        if len(found) != 1:
            raise ConfigError(f"{path} holds {len(found) or 'no'} tarballs, not one kexec image.", hint=_HINT)
        return found[0].resolve()
    if not path.is_file():
        raise ConfigError(f"there is no kexec image {path}.", hint=_HINT)
    return path.resolve()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _said(error: Exception) -> str:
    return str(error)[:100] or type(error).__name__
