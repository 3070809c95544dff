"""A boot loader that the machine's firmware does not start, or does not find, is refused."""

from typing import Any

import pytest

from holdfast.base.errors import ConfigError
from tests.unit.cases import host
from tests.unit.configured import check, seen

GRUB = {"boot_loaders": ["grub"]}
LIMINE = {"boot_loaders": ["limine"]}
BIOS, EFI, EFI32 = "bios", "efi 64", "efi 32"
NO_ESP = {"/": {"type": "ext4", "device": "/dev/sda2", "options": [], "needed": False}}
FAT = {"/": NO_ESP["/"], "/efi": {"type": "vfat", "device": "/dev/sda1", "options": [], "needed": False}}
PEM = ["/k/db.key", "/k/db.pem"]
LANZABOOTE = {"boot_loaders": ["lanzaboote"], "signing_keys": PEM}
SBCTL = LIMINE | {"signing_keys": ["/var/lib/sbctl"]}
BOTH = [{"path": path, "command": ["x"]} for path in PEM]
ARM = {"arch": "aarch64", "system": "aarch64-linux"}


@pytest.mark.parametrize(
    ("changed", "firmware", "allowance", "parts"),
    [
        ({}, BIOS, "wrong-boot-loader", ["(systemd-boot) does not start by BIOS", "boot.loader.grub.devices"]),
        ({"boot_loaders": ["lanzaboote"]}, BIOS, "wrong-boot-loader", ["lanzaboote"]),
        ({"boot_loaders": ["refind"]}, BIOS, "wrong-boot-loader", ["refind"]),
        (GRUB | {"grub": {"efi": True}}, BIOS, "wrong-boot-loader", ["(grub) does not start by BIOS"]),
        (GRUB | {"grub": {"efi": True, "removable": True}}, BIOS, "wrong-boot-loader", ["grub"]),
        (LIMINE, BIOS, "wrong-boot-loader", ["limine"]),
        (GRUB | {"grub": {"bios": True}}, EFI, "wrong-boot-loader", ["does not start by UEFI", "efiSupport"]),
        (LIMINE | {"limine": {"efi": False, "bios": True}}, EFI, "wrong-boot-loader", ["limine"]),
        ({"boot_loaders": ["generic-extlinux-compatible"]}, EFI, "wrong-boot-loader", ["extlinux"]),
        ({"boot_loaders": ["generic-extlinux-compatible"]}, BIOS, "wrong-boot-loader", ["extlinux", "Use GRUB"]),
        ({}, EFI32, "wrong-boot-loader", ["a 32-bit UEFI", "forcei686"]),
        (GRUB | {"grub": {"efi": True, "removable": True}}, EFI32, "wrong-boot-loader", ["forcei686"]),
        (GRUB | {"grub": {"efi": True}, "efi_variables": False}, EFI, "no-boot-loader", ["no firmware finds"]),
        (
            GRUB | {"grub": {"efi": True, "bios": True}, "efi_variables": False},
            EFI,
            "no-boot-loader",
            ["canTouchEfiVariables", "boot.loader.grub.efiInstallAsRemovable = true"],
        ),
        (LIMINE | {"limine": {"removable": False}, "efi_variables": False}, EFI, "no-boot-loader", ["limine.efi"]),
        (
            {"boot_loaders": ["refind"], "refind_removable": False, "efi_variables": False},
            EFI,
            "no-boot-loader",
            ["boot.loader.refind.efiInstallAsRemovable"],
        ),
        ({"file_systems": NO_ESP}, EFI, "no-boot-loader", ["mounts nothing at /boot", "efiSysMountPoint"]),
        ({"menu_waits": True}, EFI, "no-boot-loader", ["waits for a key", "boot.loader.timeout"]),
        ({"efi_mounts": ["/efi"]}, EFI, "no-boot-loader", ["mounts nothing at /efi"]),
        # Limine reads nothing but FAT, with BIOS too.
        (
            LIMINE | {"limine": {"bios": True}, "file_systems": NO_ESP},
            BIOS,
            "no-boot-loader",
            ["Limine", "no FAT file system at /boot"],
        ),
        (
            LIMINE | {"limine": {"efi": True, "bios": True}, "file_systems": FAT},
            BIOS,
            "no-boot-loader",
            ["no FAT file system at /boot"],
        ),
        (
            LIMINE | {"limine": {"efi": False, "bios": True}, "file_systems": FAT, "efi_mounts": ["/efi"]},
            BIOS,
            "no-boot-loader",
            ["no FAT file system at /boot"],
        ),
        (LANZABOOTE, EFI, "no-boot-loader", ["signs with /k/db.key", "the inventory's files"]),
        (SBCTL, EFI, "no-boot-loader", ["signs with /var/lib/sbctl"]),
    ],
)
def test_firmware_would_not_start_it(changed: dict[str, Any], firmware: str, allowance: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        check(seen(**changed), host(), said={"firmware": firmware})
    for part in [*parts, f'add "{allowance}" to allow']:
        assert part in str(error.value)
    (allowed,) = check(seen(**changed), host(allow=[allowance]), said={"firmware": firmware})
    assert f"allows it ({allowance})" in allowed


@pytest.mark.parametrize(
    ("changed", "firmware"),
    [
        ({}, EFI),
        ({"efi_variables": False}, EFI),  # bootctl also puts it where every UEFI looks
        ({"boot_loaders": ["lanzaboote"], "efi_variables": False}, EFI),
        (GRUB | {"grub": {"efi": True, "removable": True}, "efi_variables": False}, EFI),
        (GRUB | {"grub": {"efi": True}}, EFI),
        (GRUB | {"grub": {"efi": True, "bios": True, "removable": True}, "efi_variables": False}, EFI),
        (GRUB | {"grub": {"efi": True, "bios": True}, "efi_variables": False}, BIOS),
        (GRUB | {"grub": {"bios": True}, "file_systems": NO_ESP}, BIOS),
        (GRUB | {"grub": {"efi": True, "only_32_bit": True, "removable": True}}, EFI32),
        (LIMINE | {"limine": {"bios": True}}, BIOS),
        (LIMINE | {"efi_variables": False}, EFI),
        (
            LIMINE | {"limine": {"efi": True, "bios": True}, "file_systems": FAT, "efi_mounts": ["/efi/"]},
            BIOS,
        ),
        (LIMINE | {"limine": {"bios": True}, "file_systems": {}}, BIOS),
        ({"boot_loaders": ["external"]}, BIOS),
        ({"boot_loaders": ["external"]}, EFI),
        ({"boot_loaders": ["initScript"], "file_systems": NO_ESP}, EFI),
        ({"boot_loaders": ["raspberrypi"]}, EFI),
        ({}, "other"),
        ({"file_systems": {}}, EFI),  # it does not say
    ],
)
def test_firmware_starts_it(changed: dict[str, Any], firmware: str) -> None:
    assert check(seen(**changed), host(), said={"firmware": firmware}) == ()


@pytest.mark.parametrize("firmware", ["other", EFI])
@pytest.mark.parametrize("loader", ["generic-extlinux-compatible", "systemd-boot", "raspberrypi"])
def test_board_is_believed(loader: str, firmware: str) -> None:
    board = seen(boot_loaders=[loader], system="aarch64-linux")
    assert check(board, host(), said={"firmware": firmware, "arch": "aarch64"}) == ()


@pytest.mark.parametrize(
    ("changed", "inventory", "installs"),
    [
        (LANZABOOTE, {"files": BOTH}, True),
        (LANZABOOTE, {"files": BOTH[:1]}, False),
        (LANZABOOTE, {"files": [{"path": "/k/db.pem.old", "command": ["x"]}]}, False),
        (LANZABOOTE, {"extra_files": "/srv/files"}, True),
        (SBCTL, {"files": [{"path": "/var/lib/sbctl/keys/db/db.key", "command": ["x"]}]}, True),
        (SBCTL, {"files": [{"path": "/var/lib/sbctl2/key", "command": ["x"]}]}, False),
    ],
)
def test_keys_that_sign_the_boot_loader_are_brought(
    changed: dict[str, Any], inventory: dict[str, Any], installs: bool
) -> None:
    if installs:
        assert check(seen(**changed), host(**inventory), said={"firmware": EFI}) == ()
        return
    with pytest.raises(ConfigError, match="signs with"):
        check(seen(**changed), host(**inventory), said={"firmware": EFI})
