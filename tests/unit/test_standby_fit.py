"""Whether the new disk gets a standby, said before anything is changed: from recorded layouts of disko."""

import re

import pytest

from holdfast.base.settings import PROJECT
from holdfast.base.size import MIB
from holdfast.facts.system import Firmware
from holdfast.plan.layout import Layout, Mount, Raid, Volume
from holdfast.plan.way_back.fit import STARTER_MOUNTS, Fit, Parts, fit, most_starter_bytes
from holdfast.plan.way_back.judging import warned_of
from holdfast.plan.way_back.row import Verdict
from holdfast.plan.way_back.standby import parts_of, standby_rows
from tests.unit.cases import facts, host, image
from tests.unit.disko_layouts import LAYOUTS, is_example, layout
from tests.unit.standby_fit_page import LARGEST_WITHOUT_MIB, PAGE, answer, counts, page

SMALL, LARGE = (Parts(installer_bytes=megabytes * 10**6) for megabytes in (300, 700))
PARTITION = Volume(by="sgdisk", table="gpt", number=1, size="512M", esp=True)
BOOT = Mount(place="/boot", type="vfat", layers=("partition",), volume=PARTITION)
ROOT = Mount(place="/", type="ext4", layers=("partition",), volume=Volume(by="sgdisk", table="gpt", size="100%"))


def of(name: str, firmware: Firmware = "efi", parts: Parts = SMALL, *, word: bool = False) -> Fit:
    return fit(layout(name), firmware, "x86_64", parts, state_on_boot=word)


def mounted(*mounts: Mount, firmware: Firmware = "efi", arch: str = "x86_64", parts: Parts = SMALL) -> Fit:
    return fit(Layout(mounts=mounts), firmware, arch, parts, state_on_boot=False)


def test_page_says_what_the_plan_says() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m tests.unit.standby_fit_page"


def test_most_of_diskos_examples_get_a_standby() -> None:
    found = counts()
    assert found["examples"] == 31
    # Every one with a boot partition of 475 MiB or more; without the word, those whose root is not encrypted.
    assert found["word_small_image"] >= 20
    assert found["plain_small_image"] == found["plain_large_image"] >= 15
    assert found["word_large_image"] > found["plain_large_image"]


def test_examples_without_a_standby_have_a_small_boot_partition() -> None:
    for name in filter(is_example, LAYOUTS):
        boot = layout(name).at("/boot")
        if boot and not answer(name, "efi").with_word[0].form:
            assert (boot.volume.size_bytes or 0) <= LARGEST_WITHOUT_MIB * MIB, name


@pytest.mark.parametrize(
    ("name", "firmware", "form"),
    [
        ("simple-efi", "efi", "small"),
        ("xfs-with-quota", "efi", "small"),
        ("f2fs", "efi", "small"),
        ("boot-raid1", "efi", "small"),
        ("esp-on-second-disk", "efi", "small"),
        ("impermanence", "efi", "small"),
        ("hybrid-tmpfs-on-root", "bios", "small"),
        ("negative-size", "bios", "small"),
        ("gpt-bios-compat", "bios", "small"),
        ("esp-200m", "bios", "small"),
    ],
)
@pytest.mark.parametrize("parts", [SMALL, LARGE, Parts()])
def test_it_fits_whatever_the_size_of_the_image(name: str, firmware: Firmware, form: str, parts: Parts) -> None:
    assert of(name, firmware, parts).form == form


@pytest.mark.parametrize("name", ["luks-btrfs-subvolumes", "luks-lvm", "luks-on-mdadm", "luks-interactive-login"])
def test_an_encrypted_root_takes_the_word(name: str) -> None:
    without = of(name)
    assert (without.form, without.encrypted, without.would_do_bytes) == ("", True, 0)
    assert "is encrypted, and the boot partition is not" in without.why
    assert of(name, word=True).form == "whole"
    larger = of(name, parts=LARGE, word=True)
    assert (larger.form, larger.encrypted) == ("", False)
    assert larger.would_do_bytes == of(name, parts=LARGE).would_do_bytes > 700 * 10**6 + 160 * 10**6
    assert of(name, parts=Parts(), word=True).unknown


@pytest.mark.parametrize(
    ("name", "firmware", "why"),
    [
        ("esp-64m", "efi", "/boot is too small: some 63 MiB can be used, and 160 are needed"),
        ("esp-100m", "efi", "/boot is too small: some 99 MiB can be used, and 160 are needed"),
        ("esp-100m", "bios", "/boot is too small: some 99 MiB can be used, and 160 are needed"),
        ("lvm-thin", "efi", "/ is too small for the installer: 8 MiB, and 384 are needed"),
        ("esp-in-raid-with-superblock-first", "efi", "cannot read /boot on an array of level 1 with metadata 1.2"),
        ("boot-on-raid1", "bios", "/boot is on mdadm on partition"),
        ("boot-on-raid1", "efi", "no FAT file system is mounted at /boot/efi, /efi or /boot"),
        ("mdadm", "bios", "/ is on partition on mdadm on partition"),
        ("msdos-logical", "bios", "/boot is not on a primary partition"),
        ("zfs", "efi", "/zfs_crypted is encrypted"),
        ("bcachefs", "efi", "is encrypted"),
        ("boot-raid1", "efi32", "the firmware has 32 bits"),
        ("negative-size", "efi", "no FAT file system"),
    ],
)
def test_why_there_is_none(name: str, firmware: Firmware, why: str) -> None:
    found = of(name, firmware)
    assert found.form == ""
    assert why in found.why


@pytest.mark.parametrize("name", ["esp-64m", "esp-100m", "gpt-unformatted", "btrfs-subvolumes", "zfs-with-vdevs"])
def test_the_size_that_is_said_would_do(name: str) -> None:
    found = of(name)
    size = found.would_do_bytes
    assert 0 < size < 200 * MIB

    def with_boot_of(size_bytes: int) -> Fit:
        volume = Volume(by="sgdisk", table="gpt", number=1, size=f"{size_bytes // 1024}K")
        return mounted(BOOT.model_copy(update={"volume": volume}), ROOT)

    assert with_boot_of(size).form == "small"
    assert not with_boot_of(size - 10 * MIB).form


@pytest.mark.parametrize(
    ("mounts", "firmware", "arch", "why"),
    [
        ((BOOT, ROOT), "efi", "armv7l", "the EFI boot loader for armv7l is not known"),
        ((BOOT, ROOT), "other", "aarch64", "no extlinux for aarch64"),
        ((ROOT.model_copy(update={"type": "btrfs"}),), "bios", "x86_64", "extlinux boots from FAT and ext2 to ext4"),
        ((BOOT.model_copy(update={"layers": ("partition", "lvm")}), ROOT), "efi", "x86_64", "on lvm on partition"),
        ((BOOT.model_copy(update={"layers": ()}), ROOT), "efi", "x86_64", "on a disk without partitions"),
        ((BOOT.model_copy(update={"layers": ()}), ROOT), "bios", "x86_64", "on a disk without partitions"),
        (
            (
                BOOT.model_copy(
                    update={"layers": ("partition", "mdadm"), "raid": Raid(level="0", metadata="1.0")},
                ),
                ROOT,
            ),
            "efi",
            "x86_64",
            "an array of level 0",
        ),
        ((BOOT, ROOT.model_copy(update={"type": "bcachefs"})), "efi", "x86_64", "which may be encrypted"),
    ],
)
def test_what_nothing_can_start(mounts: tuple[Mount, ...], firmware: Firmware, arch: str, why: str) -> None:
    assert why in mounted(*mounts, firmware=firmware, arch=arch).why


def test_a_root_that_the_starter_cannot_mount_takes_all_on_the_boot_partition() -> None:
    strange = ROOT.model_copy(update={"type": "nilfs2"})
    assert mounted(BOOT, strange).form == "whole"
    assert mounted(BOOT, strange, parts=LARGE).would_do_bytes > 800 * 10**6
    assert "not here" in mounted(BOOT, strange, parts=Parts()).unknown


@pytest.mark.parametrize(
    ("mounts", "unknown"),
    [
        ((), "could not be read"),
        (
            (BOOT.model_copy(update={"volume": Volume(by="sgdisk", table="gpt", number=2, end="500M")}), ROOT),
            "how large /boot is",
        ),
    ],
)
def test_what_cannot_be_computed_is_said(mounts: tuple[Mount, ...], unknown: str) -> None:
    found = mounted(*mounts)
    assert unknown in found.unknown
    assert found.form == found.why == ""


def test_the_plan_knows_what_the_starter_mounts() -> None:
    text = (PROJECT / "nix/kexec-tailscale/standby.nix").read_text()
    listed = re.search(r"\n  mounts = \[.*?;\n", text, re.DOTALL)
    assert listed
    words = set(re.findall(r'"(\w+)"', listed[0]))
    assert words == {*STARTER_MOUNTS, "lvm", "md"}
    sizes = re.search(r"mostMiB = if platform.isx86_64 then (\d+) else (\d+);", text)
    assert sizes
    assert [int(size) * MIB for size in sizes.groups()] == [most_starter_bytes("x86_64"), most_starter_bytes("aarch64")]


@pytest.mark.parametrize(("arch", "form"), [("x86_64", "small"), ("aarch64", ""), ("riscv64", "")])
def test_a_kernel_that_is_not_packed_needs_a_larger_boot_partition(arch: str, form: str) -> None:
    found = fit(layout("esp-200m"), "efi", arch, parts_of(None, arch), state_on_boot=False)
    assert found.form == form
    if not form:
        assert found.would_do_bytes > most_starter_bytes(arch) > most_starter_bytes("x86_64")


# ---------------------------------------------------------------- rows of the plan


def test_rows_of_a_machine_that_gets_both() -> None:
    rows = tuple(standby_rows(layout("simple-efi"), host(), facts("debian-12", firmware="efi 64"), image()))
    assert [(row.subject, row.verdict) for row in rows] == [("standby", Verdict.FINE), ("trial", Verdict.FINE)]
    assert "/boot (vfat, 500 MiB)" in rows[0].seen
    assert warned_of(rows) == ()


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("simple-efi", {"standby": False}, "standby: none: the inventory says `standby = false`"),
        ("simple-efi", {"way": "standard"}, "standby: none: the installer of the standard way is not on the tailnet"),
        ("esp-100m", {}, "A boot partition of 130 MiB would do."),
        ("luks-lvm", {}, 'With "state-on-boot" in allow, the boot partition may hold'),
    ],
)
def test_rows_of_a_machine_that_gets_none(name: str, changed: dict[str, object], said: str) -> None:
    rows = tuple(standby_rows(layout(name), host(**changed), facts("debian-12", firmware="efi 64"), image()))
    assert [(row.subject, row.verdict) for row in rows] == [("standby", Verdict.UNPROVED), ("trial", Verdict.UNPROVED)]
    standby, trial = warned_of(rows)
    assert said in standby
    assert "the machine boots nothing" in standby
    assert "nothing leads back" in trial


def test_a_partition_that_is_not_marked_is_in_doubt() -> None:
    plain = BOOT.model_copy(update={"volume": PARTITION.model_copy(update={"esp": False})})
    unmarked = Layout(mounts=(plain, ROOT))
    standby, trial = standby_rows(unmarked, host(), facts("debian-12", firmware="efi 64"), image())
    assert standby.verdict is trial.verdict is Verdict.UNPROVED
    assert "it fits, but /boot is not marked as an EFI system partition" in standby.seen
    assert "EF00" in standby.hint
    # A BIOS does not look at the type.
    rows = standby_rows(unmarked, host(), facts("debian-12", firmware="bios"), image())
    assert {row.verdict for row in rows} == {Verdict.FINE}


@pytest.mark.parametrize(
    ("name", "firmware", "helps"),
    [
        ("negative-size", "efi 64", "A partition of type EF00 with FAT, mounted at /boot, would do."),
        ("esp-in-raid-with-superblock-first", "efi 64", 'An array with `level = 1` and `metadata = "1.0"` would do'),
        ("mdadm", "bios", "A partition of its own for /boot, on one disk, would do."),
        ("msdos-logical", "bios", "A primary partition would do."),
    ],
)
def test_what_would_help_is_said(name: str, firmware: str, helps: str) -> None:
    standby, _ = standby_rows(layout(name), host(), facts("debian-12", firmware=firmware), image())
    assert standby.hint.startswith(helps)


def test_the_word_is_the_hosts() -> None:
    allowed = host(allow=["state-on-boot"])
    standby, _ = standby_rows(layout("luks-lvm"), allowed, facts("debian-12", firmware="efi 64"), image())
    assert standby.verdict is Verdict.FINE
    assert "with the node's state, lies on the boot partition" in standby.seen


def test_secure_boot_prevents_it() -> None:
    seen = facts("debian-12", firmware="efi 64", secure_boot="1")
    standby, trial = standby_rows(layout("simple-efi"), host(), seen, image())
    assert "Secure Boot is on" in standby.seen
    assert trial.verdict is Verdict.UNPROVED


def test_an_unknown_layout_is_no_failure() -> None:
    standby, trial = standby_rows(None, host(), facts("debian-12"), None)
    assert standby.verdict is trial.verdict is Verdict.UNPROVED
    assert "could not be read" in standby.seen
    assert "docs/standby-fit.md" in standby.hint


def test_size_of_an_image() -> None:
    assert parts_of(None, "x86_64") == Parts()
    assert parts_of(image(kernel_bytes=10, initrd_bytes=20, starter_bytes=5), "x86_64") == Parts(
        starter_bytes=15, installer_bytes=30
    )
    assert parts_of(image(kernel_bytes=10, initrd_bytes=20, starter_bytes=0), "x86_64").starter_bytes is None


def test_an_image_without_a_starter_lies_on_the_boot_partition() -> None:
    older = [Parts(starter_bytes=None, installer_bytes=megabytes * 10**6) for megabytes in (300, 700)]
    assert [of("simple-efi", parts=each).form for each in older] == ["whole", ""]
    assert of("simple-efi", parts=older[1]).would_do_bytes > 0
    assert of("esp-1g", parts=older[1]).form == "whole"


def test_a_small_starter_fits_on_a_small_boot_partition() -> None:
    assert of("btrfs-subvolumes", parts=Parts(starter_bytes=25 * 10**6, installer_bytes=700 * 10**6)).form == "small"
    assert not of("btrfs-subvolumes").form
