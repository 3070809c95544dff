"""The architectures that the lab's machines may have. What differs between them is here; all other code asks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Architecture:
    """An architecture.

    Attributes:
        name: as in `uname -m`, and in Nix' names of systems.
        debian: its name in Debian and in Go; it is also the end of the names of Debian's kernels.
        triplet: the folder of its libraries in Debian.
        loader: its dynamic loader's path in an unpacked Debian.
        efi: its name in the names of EFI programs.
        console: the first serial port.
        qemu: the program.
        machine: QEMU's machine type.
        processor: QEMU's `-cpu`.
        firmware: UEFI firmware and its empty memory, in the tree with QEMU.
        starts_within_s: how long the origin may take until it answers over the tailnet.
        lacks: Debian's packages that it does not have: boot loaders for a BIOS.

    """

    name: str
    debian: str
    triplet: str
    loader: str
    efi: str
    console: str
    qemu: str
    machine: str
    processor: str
    firmware: tuple[str, str]
    starts_within_s: int
    lacks: frozenset[str] = frozenset()

    def packages(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the packages that this architecture has, under its own names, of a list for x86_64."""
        return tuple(name.replace(X86_64.debian, self.debian) for name in names if name not in self.lacks)


X86_64: Final = Architecture(
    name="x86_64",
    debian="amd64",
    triplet="x86_64-linux-gnu",
    loader="usr/lib64/ld-linux-x86-64.so.2",
    efi="x64",
    console="ttyS0",
    qemu="qemu-system-x86_64",
    machine="pc",
    processor="max",
    firmware=("usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"),
    starts_within_s=600,
)

AARCH64: Final = Architecture(
    name="aarch64",
    debian="arm64",
    triplet="aarch64-linux-gnu",
    loader="usr/lib/ld-linux-aarch64.so.1",
    efi="aa64",
    console="ttyAMA0",
    qemu="qemu-system-aarch64",
    machine="virt",
    # Without pointer authentication, which costs much time in QEMU.
    processor="cortex-a72",
    firmware=("usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", "usr/share/AAVMF/AAVMF_VARS.fd"),
    starts_within_s=900,
    lacks=frozenset({"extlinux", "syslinux-common", "grub-pc-bin"}),
)
