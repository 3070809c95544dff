"""The standby: what standby.sh puts on a new disk and takes away again, in folders that stand for roots and disks."""

import gzip
import shutil
from pathlib import Path

import pytest

from tests.unit.standby_disk import BIOS_FILES, COMMAND_LINE, INITRD, KERNEL, MARK, UEFI_FILES, Target


@pytest.fixture
def target(shell: list[str], tmp_path: Path) -> Target:
    return Target(tmp_path, shell)


def test_bios_disk_boots_the_installer(target: Target) -> None:
    assert target.put() == "armed: by BIOS, /dev/vda1 boots the installer"
    assert target.files() == BIOS_FILES
    boot = target.root / "boot"
    assert (boot / "holdfast/kernel").read_bytes() == KERNEL
    initrd = (boot / "holdfast/initrd").read_bytes()
    assert initrd == INITRD + bytes(-len(INITRD) % 4)
    assert len(INITRD) % 4
    assert (boot / "syslinux.cfg").read_text() == (
        f"{MARK}\nDEFAULT holdfast\nPROMPT 0\nLABEL holdfast\n  LINUX /holdfast/kernel\n"
        f"  INITRD /holdfast/initrd,/holdfast/handover\n  APPEND {COMMAND_LINE}\n"
        "LABEL new\n  BOOT /holdfast/new.mbr\n"
    )
    assert (boot / "holdfast/boot-code").read_bytes() == b"m" * 440
    assert (boot / "holdfast/new.mbr").read_bytes() == bytes(512)
    assert target.boot_code == b"m" * 440
    assert (target.live / "dev/vda").stat().st_size == 512
    disk = target.live / "dev/vda"
    assert target.calls.read_text().splitlines() == [
        f"chattr -i {boot}/ldlinux.sys",
        f"sfdisk --quiet --no-reread --no-tell-kernel --activate {disk} 1",
    ]
    assert (boot / "holdfast/handover").stat().st_mode & 0o777 == 0o600


def test_partition_that_starts_already_is_left_alone(target: Target) -> None:
    target.disk(table="dos", active=True)
    target.put()
    assert target.calls.read_text() == f"chattr -i {target.root}/boot/ldlinux.sys\n"


@pytest.mark.parametrize(
    ("attributes", "asked"),
    [
        ("", "LegacyBIOSBootable"),
        ("RequiredPartition", "RequiredPartition,LegacyBIOSBootable"),
        ("LegacyBIOSBootable", ""),
    ],
)
def test_gpt_by_bios(target: Target, attributes: str, asked: str) -> None:
    target.disk(table="gpt")
    assert target.put(ATTRIBUTES=attributes).startswith("armed: by BIOS")
    assert target.boot_code == (target.root / "boot/holdfast/boot-code").read_bytes() == b"g" * 440
    disk = target.live / "dev/vda"
    calls = [f"chattr -i {target.root}/boot/ldlinux.sys", f"sfdisk --part-attrs {disk} 1"]
    if asked:
        calls.append(f"sfdisk --quiet --no-reread --no-tell-kernel --part-attrs {disk} 1 {asked}")
    assert target.calls.read_text().splitlines() == calls


def test_bios_without_a_boot_partition(target: Target) -> None:
    target.mount("/boot")
    target.mount("", "ext4", "/dev/vda1")
    (target.root / "boot").rmdir()
    assert target.put() == "armed: by BIOS, /dev/vda1 boots the installer"
    configuration = (target.root / "boot/syslinux.cfg").read_text()
    assert "  INITRD /boot/holdfast/initrd,/boot/holdfast/handover\n" in configuration
    assert "  BOOT /boot/holdfast/new.mbr\n" in configuration


def test_bios_takes_the_esp_if_extlinux_cannot_read_the_root(target: Target) -> None:
    target.mount("/boot")
    target.mount("", "btrfs", "/dev/vda2")
    assert target.put() == f"none: extlinux can boot from no file system below {target.root}"
    target.mount("/boot/efi", "vfat", "/dev/vda1")
    assert target.put().startswith("armed: ")
    assert target.files("boot/efi") == BIOS_FILES
    assert "  LINUX /holdfast/kernel\n" in (target.root / "boot/efi/syslinux.cfg").read_text()


@pytest.mark.parametrize("place", ["/boot", "/boot/efi", "/efi"])
def test_uefi_disk_boots_the_installer(target: Target, place: str) -> None:
    target.uefi()
    target.mount("/boot", "ext4", "/dev/vda3")
    target.mount(place, "vfat", "/dev/vda1")
    assert target.put() == "armed: by UEFI, /dev/vda1 boots the installer"
    assert target.files(place[1:]) == UEFI_FILES
    boot = target.root / place[1:]
    assert (boot / "EFI/BOOT/BOOTX64.EFI").read_text() == "efi"
    assert (boot / "loader/loader.conf").read_text() == f"{MARK}\ndefault holdfast-standby.conf\ntimeout 0\n"
    assert (boot / "loader/entries/holdfast-standby.conf").read_text() == (
        f"{MARK}\ntitle Holdfast installer\nlinux /holdfast/kernel\ninitrd /holdfast/initrd\n"
        f"initrd /holdfast/handover\noptions {COMMAND_LINE}\n"
    )
    assert target.boot_code == b"o" * 440


@pytest.mark.parametrize(("machine", "file"), [("aarch64", "BOOTAA64.EFI"), ("riscv64", "BOOTRISCV64.EFI")])
def test_uefi_of_other_machines(target: Target, machine: str, file: str) -> None:
    target.uefi()
    assert target.put(MACHINE=machine).startswith("armed: ")
    assert f"EFI/BOOT/{file}" in target.files()


@pytest.mark.parametrize("uefi", [False, True])
def test_putting_it_again_changes_only_what_is_new(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    said = target.put()
    boot = target.root / "boot"
    kernel = (boot / "holdfast/kernel").stat().st_ino
    target.write("var/lib/tailscale/tailscaled.state", '{"profile-1": "newer"}')
    # There is no room for a second kernel and initrd, and none is needed.
    assert target.put(FREE_KIB=str(96 * 1024 + 20)) == said
    assert (boot / "holdfast/kernel").stat().st_ino == kernel
    archive = target.handover()["holdfast/tailscale-state.tar.gz"][1]
    assert b"newer" in gzip.decompress(archive)
    assert target.files() == (UEFI_FILES if uefi else BIOS_FILES)


@pytest.mark.parametrize("uefi", [False, True])
def test_once_armed_it_needs_nothing_in_ram(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    said = target.put()
    shutil.rmtree(target.ram)
    assert target.put() == f"{said} already"
    (target.root / "boot/holdfast/handover").unlink()
    assert target.put() == "none: the installer's kernel is not in its RAM"


@pytest.mark.parametrize("uefi", [False, True])
def test_remove_takes_away_all_of_it(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    (target.root / "boot/theirs").write_text("theirs")
    target.put()
    assert target.remove() == f"removed: the standby in {target.root}/boot"
    assert {path.name for path in (target.root / "boot").iterdir()} == {"theirs"}
    if not uefi:
        assert f"chattr -i {target.root}/boot/ldlinux.sys\n" in target.calls.read_text()
    assert target.remove() == f"none: there is no standby below {target.root}"


def test_secrets_are_overwritten_before_they_are_removed(target: Target) -> None:
    target.write("run/holdfast/secrets/portal", "user=me")
    target.put()
    handover = target.root / "boot/holdfast/handover"
    assert b"user=me" in handover.read_bytes()
    (target.root / "kept").hardlink_to(handover)
    size = handover.stat().st_size
    target.remove()
    left = (target.root / "kept").read_bytes()
    assert len(left) >= size
    assert left == bytes(len(left))


def test_older_handover_is_overwritten_by_the_next_one(target: Target) -> None:
    target.write("run/holdfast/secrets/portal", "user=me")
    target.put()
    handover = target.root / "boot/holdfast/handover"
    (target.root / "kept").hardlink_to(handover)
    target.write("run/holdfast/secrets/portal", "user=you")
    target.put()
    assert not (target.root / "kept").read_bytes().strip(b"\0")
    assert b"user=you" in handover.read_bytes()
    assert target.files() == BIOS_FILES


@pytest.mark.parametrize("left", ["handover.old", "handover.new", "handover.0123456789ab.new"])
def test_handover_that_a_killed_put_has_left_is_overwritten(target: Target, left: str) -> None:
    for again in (target.put, target.remove):
        target.put()
        older = target.root / "boot/holdfast" / left
        older.write_text("secret")
        (target.root / "kept").unlink(missing_ok=True)
        (target.root / "kept").hardlink_to(older)
        again()
        assert not older.exists()
        assert not (target.root / "kept").read_bytes().strip(b"\0")


def test_remove_leaves_the_final_systems_extlinux(target: Target) -> None:
    target.put()
    boot = target.root / "boot"
    (boot / "syslinux.cfg").write_text("DEFAULT nixos\n")
    (boot / "ldlinux.sys").write_text("theirs")
    assert target.remove().startswith("removed: ")
    assert target.files() == {"syslinux.cfg", "ldlinux.sys", "ldlinux.c32"}
    assert (boot / "ldlinux.sys").read_text() == "theirs"


def test_remove_leaves_the_final_systems_systemd_boot_even_if_it_is_the_same_file(target: Target) -> None:
    target.uefi()
    target.put()
    boot = target.root / "boot"
    (boot / "loader/loader.conf").write_text("default nixos-generation-1.conf\n")
    (boot / "loader/entries/nixos-generation-1.conf").write_text("title NixOS\n")
    assert target.remove().startswith("removed: ")
    assert target.files() == {"EFI/BOOT/BOOTX64.EFI", "loader/loader.conf", "loader/entries/nixos-generation-1.conf"}


def test_remove_leaves_another_removable_boot_loader(target: Target) -> None:
    target.uefi()
    target.put()
    (target.root / "boot/EFI/BOOT/BOOTX64.EFI").write_text("grub")
    assert target.remove().startswith("removed: ")
    assert target.files() == {"EFI/BOOT/BOOTX64.EFI"}


def test_remove_can_go_on_where_it_broke_off(target: Target) -> None:
    target.uefi()
    target.put()
    (target.root / "boot/EFI/BOOT/BOOTX64.EFI").unlink()
    (target.root / "boot/loader/loader.conf").unlink()
    assert target.remove().startswith("removed: ")
    assert target.files() == set()


def test_what_breaks_off_leaves_nothing(target: Target) -> None:
    (target.live / "etc/holdfast/standby/extlinux.fails").touch()
    done = target.run("put", target.root, target.ram)
    assert (done.returncode, done.stdout) == (3, "")
    assert target.files() == set()
    assert target.boot_code == b"o" * 440
    assert not list((target.live / "run/holdfast").glob("standby.*"))


def test_what_breaks_off_later_leaves_the_earlier_one(target: Target) -> None:
    target.put()
    (target.live / "etc/holdfast/standby/extlinux.fails").touch()
    assert target.run("put", target.root, target.ram).returncode == 3
    assert target.files() == BIOS_FILES


@pytest.mark.parametrize(
    "words",
    [[], ["put"], ["put", "/", "/x"], ["put", "mnt", "/x"], ["put", "/mnt", "/x", "all"], ["remove"], ["arm", "/mnt"]],
)
def test_wrong_calls_are_refused(target: Target, words: list[str]) -> None:
    done = target.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: " in done.stderr


def shown(target: Target) -> str:
    done = target.run("show", target.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list((target.live / "run/holdfast").glob("standby.*"))
    return done.stdout.strip()


@pytest.mark.parametrize("uefi", [False, True])
def test_show_says_what_the_disk_boots(target: Target, uefi: bool) -> None:
    if uefi:
        target.uefi()
    none = "none: the disk does not boot the installer"
    assert shown(target) == none
    said = target.put()
    shutil.rmtree(target.ram)
    # As nixos-install without a boot loader leaves it.
    profile = target.root / "nix/var/nix/profiles/system"
    profile.parent.mkdir(parents=True)
    profile.symlink_to("system-1-link")
    assert shown(target) == said
    assert target.put() == f"{said} already"
    if uefi:
        (target.root / "boot/EFI/BOOT/BOOTX64.EFI").write_text("another boot loader")
    else:
        disk = target.live / "dev/vda"
        disk.write_bytes(b"another boot loader".ljust(440) + disk.read_bytes()[440:])
    assert shown(target) == "none: another boot loader is in its place"
    target.remove()
    assert shown(target) == none
