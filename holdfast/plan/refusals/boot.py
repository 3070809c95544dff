"""Whether the firmware finds the new system's boot loader, and the boot loader its system."""

import posixpath
from collections.abc import Iterator
from typing import Final

from holdfast.inventory.host import Host
from holdfast.plan.answers import Starter
from holdfast.plan.configuration import Configuration
from holdfast.plan.fitness import arch_family
from holdfast.plan.plan import Plan
from holdfast.plan.refusals.refusal import Refusal

# They start by UEFI only, and are always put where every UEFI looks (bootctl(1), `install`).
_UEFI_ONLY: Final = ("lanzaboote", "systemd-boot")
# No PC starts by its files: on a PC they need a syslinux, which NixOS does not install.
_EXTLINUX: Final = "generic-extlinux-compatible"
_FIRMWARE: Final = {"efi": "UEFI", "efi32": "a 32-bit UEFI", "bios": "BIOS"}
_HINTS: Final = {
    "efi": "Set boot.loader.systemd-boot.enable = true there, or boot.loader.grub.efiSupport with a mounted EFI system"
    " partition.",
    "efi32": "Set boot.loader.grub.efiSupport and boot.loader.grub.forcei686 = true there.",
    "bios": "Use GRUB there: name the disk in boot.loader.grub.devices (disko does, for a partition of type EF02), and"
    " set boot.loader.systemd-boot.enable = false. Or switch the machine's firmware to UEFI first.",
}


def boot_loader(seen: Configuration, host: Host, plan: Plan, name: str) -> Iterator[Refusal]:
    """Yield why the machine would not boot. Only the first gap on the way from the firmware counts."""
    if seen.zfs and not seen.host_id:
        yield Refusal(
            "no-host-id",
            f"{name} uses ZFS without networking.hostId: its pools would not be imported at boot.",
            "Set networking.hostId there to eight hexadecimal digits of your own.",
        )
    if not seen.boot_loaders:
        yield Refusal(
            "no-boot-loader",
            f"{name} has no boot loader: {host.name} would not boot.",
            "Set boot.loader.systemd-boot.enable = true there (UEFI), or boot.loader.grub.",
        )
        return
    if seen.boot_loaders == ("grub",) and not (seen.grub.efi or seen.grub.bios):
        yield Refusal(
            "no-boot-loader",
            f"GRUB of {name} is installed nowhere (nodev, without efiSupport): {host.name} would not boot.",
            "Name the disk in boot.loader.grub.devices there, or set boot.loader.grub.efiSupport = true (UEFI).",
        )
        return
    if seen.menu_waits:
        yield Refusal(
            "no-boot-loader",
            f"the boot loader's menu of {name} waits for a key (boot.loader.timeout = null): {host.name} would not boot"
            " by itself.",
            "Set boot.loader.timeout to some seconds there.",
        )
    yield from _signed(seen, host, name)
    firmware = plan.origin.firmware
    if firmware == "other":
        return
    starting = [loader for loader in seen.boot_loaders if _starts(seen, loader, firmware, plan)]
    if not starting:
        yield Refusal(
            "wrong-boot-loader",
            f"the boot loader of {name} ({', '.join(seen.boot_loaders)}) does not start by {_FIRMWARE[firmware]}, and"
            f" {host.name} does.",
            _HINTS[firmware],
        )
    elif firmware != "bios":
        yield from _found_by_uefi(seen, host, name, starting)
    elif starting == ["limine"]:
        yield from _read_by_limine(seen, host, name)


def _signed(seen: Configuration, host: Host, name: str) -> Iterator[Refusal]:
    """Yield what the boot loader is signed with and nothing brings: without it, it is not installed."""
    missing = [key for key in seen.signing_keys if not host.may_bring(key)]
    if missing:
        yield Refusal(
            "no-boot-loader",
            f"the boot loader of {name} signs with {missing[0]}, which is not on the new disk: it could not be"
            " installed.",
            f"Name {missing[0]} in the inventory's files, or let the boot loader make its keys (autoGenerateKeys).",
        )


def _read_by_limine(seen: Configuration, host: Host, name: str) -> Iterator[Refusal]:
    """Yield whether Limine, started by BIOS, finds its files: it reads FAT only (nixpkgs' limine-install.py)."""
    place = posixpath.normpath(seen.efi_mounts[0]) if seen.limine.efi and seen.efi_mounts else "/boot"
    mounted = seen.file_systems.get(place)
    if seen.file_systems and (mounted is None or mounted.type not in ("vfat", "auto")):
        yield Refusal(
            "no-boot-loader",
            f"Limine of {name} finds no FAT file system at {place}: {host.name} would not boot.",
            f"Mount a partition with vfat at {place} there.",
        )


def _starts(seen: Configuration, loader: str, firmware: str, plan: Plan) -> bool:
    """Return whether a boot loader starts by a firmware; True if that is not known."""
    is_pc = arch_family(plan.origin.arch) in ("x86_64", "i686")
    if loader == _EXTLINUX:
        return not is_pc
    known = {"grub": seen.grub, "limine": seen.limine}
    if loader in known:
        starter = known[loader]
    elif loader in _UEFI_ONLY or loader == "refind":
        starter = Starter(efi=True, bios=False, removable=True)
    else:
        return True
    if firmware == "bios":
        return starter.bios
    wide = firmware == "efi32" and seen.system.startswith("x86_64") and not starter.only_32_bit
    # Limine comes with a 32-bit program, too.
    return starter.efi and (not wide or loader == "limine")


def _found_by_uefi(seen: Configuration, host: Host, name: str, starting: list[str]) -> Iterator[Refusal]:
    removable = {
        "grub": seen.grub.removable,
        "limine": seen.limine.removable,
        "refind": seen.refind_removable,
    }
    hidden = [loader for loader in starting if not removable.get(loader, True)]
    if hidden == starting and not seen.efi_variables:
        option = f"boot.loader.{hidden[0]}.efiInstallAsRemovable"
        yield Refusal(
            "no-boot-loader",
            f"no firmware finds the boot loader of {name}: it may neither write an entry (canTouchEfiVariables) nor lie"
            f" where every UEFI looks ({option}).",
            f"Set {option} = true there, or boot.loader.efi.canTouchEfiVariables = true.",
        )
    known = {*_UEFI_ONLY, *removable}
    lacking = [mount for mount in seen.efi_mounts if posixpath.normpath(mount) not in seen.file_systems]
    if seen.file_systems and lacking and known.issuperset(starting):
        yield Refusal(
            "no-boot-loader",
            f"{name} mounts nothing at {lacking[0]}, where UEFI finds a boot loader: {host.name} would not boot.",
            f"Mount the EFI system partition (vfat) at {lacking[0]} there, or name its mount point in"
            " boot.loader.efi.efiSysMountPoint.",
        )
