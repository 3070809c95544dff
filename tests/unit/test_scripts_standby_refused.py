"""When standby.sh puts nothing on the disk: secrets that would lie in the clear, no room, the disk of somebody else."""

from pathlib import Path

import pytest

from tests.unit.standby_disk import Target


@pytest.fixture
def target(shell: list[str], tmp_path: Path) -> Target:
    return Target(tmp_path, shell)


@pytest.mark.parametrize(
    ("mounts", "crypt"),
    [
        ({"": ("ext4", "/dev/mapper/root")}, "/dev/mapper/root"),
        ({"": ("tmpfs", "tmpfs"), "/persist": ("btrfs", "/dev/mapper/persist")}, "/dev/mapper/persist"),
        ({"": ("zfs", "rpool/secret")}, ""),
        ({"": ("zfs", "pool/root")}, "/dev/mapper/pool"),
    ],
)
def test_nothing_beside_an_encrypted_root(target: Target, mounts: dict[str, tuple[str, str]], crypt: str) -> None:
    target.tool("zfs", "case $6 in *secret) echo aes-256-gcm ;; *) echo off ;; esac")
    target.tool("zpool", 'printf "pool\\t1G\\n\\t/dev/mapper/pool\\t1G\\n"')
    for place, (fstype, source) in mounts.items():
        target.mount(place, fstype, source)
    target.starter()
    encrypted = "none: the root is encrypted and the boot partition is not (`allow` has no state-on-boot)"
    assert target.put(CRYPT=crypt) == encrypted
    assert target.run("show", target.root, CRYPT=crypt).stdout == f"{encrypted}\n"
    assert target.files() == set()
    assert target.boot_code == b"o" * 440


def test_plain_zfs_and_a_root_in_ram_are_no_secret(target: Target) -> None:
    target.tool("zfs", "echo off")
    target.mount("", "tmpfs", "tmpfs")
    target.mount("/nix", "zfs", "pool/nix")
    assert target.put().startswith("armed: ")


def test_what_cannot_be_looked_into_counts_as_encrypted(target: Target) -> None:
    target.tool("lsblk", "exit 32")
    assert target.put() == "none: cannot tell whether /dev/vda2 is encrypted"


def test_too_little_room_is_said(target: Target) -> None:
    assert target.put(FREE_KIB="98304") == (
        f"none: too little room: {target.root}/boot has 96 MiB free, and 97 are needed."
        " It has 200 MiB in all: 201 would do"
    )
    assert target.files() == set()


@pytest.mark.parametrize(
    ("uefi", "lacking", "reason"),
    [
        (False, "etc/holdfast/standby/extlinux", "the image brings no extlinux"),
        (False, "etc/holdfast/standby/mbr.bin", "the image brings no extlinux"),
        (True, "etc/holdfast/standby/boot.efi", "the image brings no EFI boot loader"),
        (False, "run/holdfast/standby/initrd", "the installer's initrd is not in its RAM"),
        (False, "run/holdfast/standby/command-line", "the installer's command-line is not in its RAM"),
        (
            False,
            "var/lib/tailscale/tailscaled.state",
            "the installer has no Tailscale state: the standby would not be on the tailnet",
        ),
        (False, "sys/devices/pci/vda/vda1/partition", "/dev/vda1 is not a partition of a disk"),
    ],
)
def test_what_is_lacking_is_said(target: Target, uefi: bool, lacking: str, reason: str) -> None:
    if uefi:
        target.uefi()
    (target.live / lacking).unlink()
    assert target.put() == f"none: {reason}"
    assert target.files() == set()


@pytest.mark.parametrize(
    ("device", "shown", "uefi", "bios"),
    [
        ("sda1", {"partition": "1"}, True, True),
        ("md0", {"md/level": "raid1", "md/metadata_version": "1.0"}, True, False),
        ("md0", {"md/level": "raid1", "md/metadata_version": "0.90"}, True, False),
        ("md0", {"md/level": "raid1", "md/metadata_version": "1.2"}, False, False),
        ("md0", {"md/level": "raid0", "md/metadata_version": "1.0"}, False, False),
        ("md0p1", {"partition": "1"}, False, False),
        ("dm-0", {"dm/uuid": "part1-mpath-3600140512345678901234567890abcde"}, True, False),
        ("dm-0", {"dm/uuid": "LVM-abc"}, False, False),
        ("sda", {}, False, False),
    ],
)
def test_firmware_and_boot_code_know_partitions_of_disks(
    target: Target, device: str, shown: dict[str, str], *, uefi: bool, bios: bool
) -> None:
    disk = {"sda1": "sda", "md0p1": "md0"}.get(device, "block")
    folder = target.live / f"sys/devices/{disk}/{device}"
    for name, text in shown.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    folder.mkdir(parents=True, exist_ok=True)
    (target.live / f"sys/class/block/{device}").symlink_to(folder)
    for name in (device, disk):
        target.write(f"dev/{name}", "o" * 512)
    target.mount("/boot", "vfat", f"/dev/{device}")
    said = target.put()
    assert said.startswith("armed: ") is bios, said
    assert bios or said == f"none: /dev/{device} is not a partition of a disk"
    target.remove()
    target.uefi()
    said = target.put()
    assert said.startswith("armed: ") is uefi, said
    assert uefi or said == f"none: the firmware cannot read /dev/{device}: it is not a partition of a disk"


def test_firmware_of_32_bits_cannot_start_the_kernel(target: Target) -> None:
    target.uefi()
    target.write("sys/firmware/efi/fw_platform_size", "32\n")
    assert target.put() == "none: the firmware has 32 bits, and the installer's kernel 64"
    target.write("sys/firmware/efi/fw_platform_size", "64\n")
    assert target.put().startswith("armed: ")


def test_nothing_shows_whether_bcachefs_is_encrypted(target: Target) -> None:
    target.mount("/home", "bcachefs", "/dev/vda3:/dev/vdb")
    assert target.put() == "none: cannot tell whether /dev/vda3:/dev/vdb is encrypted"
    assert target.put("state-on-boot").startswith("armed: ")


def test_disk_without_a_table_that_is_known(target: Target) -> None:
    target.disk(table="sun")
    assert target.put() == "none: /dev/vda has neither a GPT nor an msdos partition table"


@pytest.mark.parametrize(
    ("uefi", "file"), [(False, "syslinux.cfg"), (True, "loader/loader.conf"), (True, "EFI/BOOT/BOOTX64.EFI")]
)
def test_another_boot_loader_is_left_alone(target: Target, uefi: bool, file: str) -> None:
    if uefi:
        target.uefi()
    theirs = target.root / "boot" / file
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("theirs\n")
    assert target.put().startswith("none: ")
    assert target.files() == {file}
    assert theirs.read_text() == "theirs\n"
    assert target.remove().startswith("none: ")
    assert target.files() == {file}
    assert target.boot_code == b"o" * 440


def test_not_once_a_system_is_installed(target: Target) -> None:
    profile = target.root / "nix/var/nix/profiles/system"
    profile.parent.mkdir(parents=True)
    profile.symlink_to("system-1-link")
    assert target.put() == f"none: a system is installed at {target.root} already"
    assert target.files() == set()
