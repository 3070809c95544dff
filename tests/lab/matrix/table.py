"""The table of the matrix: a row for each kind of machine and disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab import qemu
from tests.lab import table

KEY_FILE: Final = "a key file"
PASSPHRASE: Final = "a passphrase"
COLUMNS: Final = {
    "firmware": "firmware",
    "boot_loader": "boot loader",
    "root": "root",
    "installed": "installed",
    "standby": "standby",
    "trial": "trial",
    "seconds": "seconds",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of machine and disk.

    Attributes:
        layout: how its disk is to be: a folder of `lab/final/layouts`.
        hardware: the machine.
        boot_loader: what starts the new system.
        root: what its root lies on.
        mounts: what findmnt shows of `/` and `/nix` then.
        entry: the name of the new system's boot entry, which a UEFI firmware starts first then; empty for a BIOS.
        opened_by: what opens its encrypted root at each boot, KEY_FILE or PASSPHRASE; empty if it has none.
        cut_in_trial: whether the power is cut in the trial, too: then the installer finds a pool or the like that
            another system has used and not let go.

    """

    layout: str
    hardware: qemu.Hardware
    boot_loader: str
    root: str
    mounts: str
    entry: str = ""
    opened_by: str = ""
    cut_in_trial: bool = False

    @property
    def firmware(self) -> str:
        """The firmware's kind."""
        return "UEFI" if self.hardware.uefi else "BIOS"


_PLAIN: Final = "/ ext4 /dev/vda2"
_LUKS: Final = "/ ext4 /dev/mapper/root"
_SYSTEMD_BOOT: Final = "Linux Boot Manager"
"""bootctl's own name for it."""
KINDS: Final = (
    Kind("plain", qemu.BIOS, "extlinux", "ext4", _PLAIN),
    Kind("bios-root", qemu.BIOS, "extlinux", "ext4, with /boot", _PLAIN),
    Kind("btrfs", qemu.BIOS, "extlinux", "btrfs", "/ btrfs /dev/vda2\n/nix btrfs /dev/vda2"),
    Kind("lvm", qemu.BIOS, "extlinux", "ext4 on LVM", "/ ext4 /dev/pool/root"),
    Kind("luks-keyfile", qemu.BIOS, "extlinux", "ext4 on LUKS, key file", _LUKS, opened_by=KEY_FILE),
    Kind("zfs", qemu.BIOS, "extlinux", "ZFS", "/ zfs zroot/root\n/nix zfs zroot/nix", cut_in_trial=True),
    Kind("grub", qemu.BIOS, "GRUB", "ext4", _PLAIN),
    Kind("luks-passphrase", qemu.BIOS, "GRUB", "ext4 on LUKS, passphrase by SSH", _LUKS, opened_by=PASSPHRASE),
    Kind("efi", qemu.UEFI, "systemd-boot", "ext4", _PLAIN, _SYSTEMD_BOOT),
    Kind("grub-efi", qemu.UEFI, "GRUB", "ext4", _PLAIN, "NixOS-boot"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What an install on one kind has shown.

    Attributes:
        firmware, boot_loader, root: of the kind.
        installed: `yes`, or what went wrong.
        standby: whether the installer has started from the new disk after a power cut.
        trial: the outcome of the phase.
        seconds: from the start of the run to its end, with the power cut.

    """

    firmware: str
    boot_loader: str
    root: str
    installed: str
    standby: str
    trial: str
    seconds: float


def kind_of(layout: str) -> Kind:
    """Return the kind whose disk has this layout."""
    return next(kind for kind in KINDS if kind.layout == layout)


def row(kind: Kind, report: dict[str, Any], *, standby: str, seconds: float) -> Row:
    """Return the row of an install that has succeeded."""
    outcomes = {phase["name"]: phase["outcome"] for phase in report["phases"]}
    trial = "yes" if outcomes["trial"] == "done" else outcomes["trial"]
    return Row(kind.firmware, kind.boot_loader, kind.root, "yes", standby, trial, round(seconds, 1))


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Return the rows in the order of the kinds."""
    kinds = [(kind.firmware, kind.boot_loader, kind.root) for kind in KINDS]
    return sorted(rows, key=lambda row: kinds.index((row.firmware, row.boot_loader, row.root)))


def without_row(rows: Sequence[Row]) -> list[str]:
    """Return the layouts of the kinds that have no row: their labs did not come so far."""
    seen = {(row.firmware, row.boot_loader, row.root) for row in rows}
    return [kind.layout for kind in KINDS if (kind.firmware, kind.boot_loader, kind.root) not in seen]


def show(rows: Sequence[Row]) -> None:
    """Print the table to the terminal."""
    table.show(f"{len(rows)} rows, {sum(row.installed == 'yes' for row in rows)} installed", COLUMNS, rows)
