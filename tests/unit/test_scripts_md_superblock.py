"""Digests of kept disks, on images with md superblocks: assembling changes nothing, and everything else shows.

The superblocks follow include/uapi/linux/raid/md_p.h of Linux; what an assembly changes follows super_90_sync and
super_1_sync in drivers/md/md.c, and md_bitmap_update_sb in drivers/md/md-bitmap.c.
"""

import os
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.conftest import Userland
from tests.unit.test_scripts_disk_digests import MIB, Target

TOOLS = ("cut", "dd", "mktemp", "od", "rm", "sha256sum", "tr")
SECTOR = 512
DISK = 4 * MIB
SECTORS = DISK // SECTOR
MAGIC = 0xA92B4EFC
BITMAP = b"bitm"


@dataclass(frozen=True)
class Member:
    """Where a member lies on its disk, in sectors."""

    start: int = 0
    sectors: int = SECTORS


WHOLE = Member()
EARLY = Member(63, 2048)  # as old partition tables have it
LATE = Member(2500, SECTORS - 2500 - 33)  # up to the second GPT


def place(version: str, member: Member) -> int:
    """Return the superblock's sector in the member."""
    return {
        "0.90": member.sectors // 128 * 128 - 128,
        "1.0": (member.sectors - 16) // 8 * 8,
        "1.1": 0,
        "1.2": 8,
    }[version]


def put(disk: bytearray, at: int, form: str, *values: int | bytes) -> None:
    struct.pack_into(form, disk, at, *values)


def superblock(disk: bytearray, version: str, member: Member, bitmap: int = 0) -> tuple[int, int]:
    """Write a superblock, with a bitmap so many sectors away. Return the first byte of both, 0 if there is none."""
    sector = place(version, member)
    at = (member.start + sector) * SECTOR
    if version == "0.90":
        disk[at : at + 4096] = bytes(4096)
        put(disk, at, "<12I", MAGIC, 0, 90, 0, 0, 7, 1700000000, 1, 1000, 2, 2, 0)
        for number in range(2):
            put(disk, at + 512 + 128 * number, "<5I", number, 8, 17 + 16 * number, number, 6)
        put(disk, at + 3968, "<5I", 0, 8, 17, 0, 6)
        bitmap = 8 if bitmap else 0
    else:
        disk[at : at + 256] = bytes(256)
        put(disk, at, "<3I", MAGIC, 1, 1 if bitmap else 0)
        put(disk, at + 16, "16s", b"set-uuid-of-test")
        put(disk, at + 96, "<i", bitmap)
        put(disk, at + 128, "<3Q", 64, 1000, sector)
        put(disk, at + 168, "16s", b"dev-uuid-of-test")
        put(disk, at + 220, "<I", 2)
        put(disk, at + 256, "<2H", 0, 1)
    if not bitmap:
        return at, 0
    map_at = at + bitmap * SECTOR
    put(disk, map_at, "<4sI16s", BITMAP, 4, b"set-uuid-of-test")
    return at, map_at


def assemble(disk: bytearray, version: str, at: int, map_at: int) -> None:
    """Change what assembling and stopping the array elsewhere changes, with values that nobody could guess."""
    any_ = random.Random(7).randbytes
    if version == "0.90":
        disk[at + 44 : at + 48] = struct.pack("<I", 127)  # md_minor
        disk[at + 128 : at + 176] = any_(48)  # utime to recovery_cp
        for number in (*range(27), 27):
            disk[at + 512 + 128 * number + 4 : at + 512 + 128 * number + 12] = any_(8)  # major, minor
    else:
        disk[at + 192 : at + 220] = any_(28)  # utime, events, resync_offset, sb_csum
    if map_at:
        disk[map_at + 24 : map_at + 40] = any_(16)  # events, events_cleared
        disk[map_at + 48 : map_at + 52] = any_(4)  # state


@pytest.fixture
def target(userland: Userland, tmp_path: Path) -> Target:
    (tmp_path / "root/dev").mkdir(parents=True)
    return Target(tmp_path / "root", userland)


def with_partitions(target: Target, disk: bytearray, *parts: Member) -> Path:
    file = target.disk("sda", disk)
    for number, part in enumerate(parts, 1):
        folder = target.root / f"sys/block/sda/sda{number}"
        folder.mkdir()
        for name, value in (("partition", number), ("start", part.start), ("size", part.sectors)):
            (folder / name).write_text(f"{value}\n")
    return file


# Each is in the first or in the last MiB of the disk.
CASES = [
    pytest.param("1.1", WHOLE, 0, id="1.1 on the disk"),
    pytest.param("1.2", WHOLE, 8, id="1.2 on the disk, with a bitmap"),
    pytest.param("1.2", EARLY, 0, id="1.2 on an early partition"),
    pytest.param("1.1", EARLY, 16, id="1.1 on an early partition, with a bitmap"),
    pytest.param("1.0", WHOLE, 0, id="1.0 on the disk"),
    pytest.param("1.0", LATE, -16, id="1.0 on a late partition, with a bitmap before it"),
    pytest.param("0.90", WHOLE, 0, id="0.90 on the disk"),
    pytest.param("0.90", LATE, 8, id="0.90 on a late partition, with a bitmap"),
]


@pytest.mark.parametrize(("version", "member", "bitmap"), CASES)
def test_assembling_and_stopping_changes_nothing(target: Target, version: str, member: Member, bitmap: int) -> None:
    disk = bytearray(os.urandom(DISK))
    at, map_at = superblock(disk, version, member, bitmap)
    file = with_partitions(target, disk, *([member] if member is not WHOLE else []))
    before = target.ask("/dev/sda")
    assert "unreadable" not in before[0]
    changed = disk.copy()
    assemble(changed, version, at, map_at)
    assert changed != disk
    file.write_bytes(changed)
    assert target.ask("/dev/sda") == before


def flip(at: int) -> Callable[[bytearray], None]:
    def change(disk: bytearray) -> None:
        disk[at] ^= 1

    return change


@pytest.mark.parametrize(("version", "member", "bitmap"), CASES)
def test_all_else_shows(tmp_path: Path, version: str, member: Member, bitmap: int) -> None:
    (tmp_path / "dev").mkdir()
    target = Target(tmp_path, Userland(["sh"], os.environ["PATH"]))  # one shell is enough for so many questions
    disk = bytearray(os.urandom(DISK))
    at, map_at = superblock(disk, version, member, bitmap)
    file = with_partitions(target, disk, *([member] if member is not WHOLE else []))
    before = target.ask("/dev/sda")

    def zero(disk: bytearray) -> None:
        disk[at : at + 256] = bytes(256)

    places = [at - 1, at + 4096] if at else [4096]
    if version == "0.90":
        # uuid, level, size; a disk's number and state; the words around what is left out.
        places += [at + 20, at + 28, at + 32, at + 40, at + 48, at + 127, at + 176, at + 512, at + 512 + 16, at + 524]
    else:
        # set_uuid, level, device_uuid, the words around what is left out, roles.
        places += [at + 16, at + 72, at + 168, at + 191, at + 220, at + 256, at + 258]
    if map_at:
        places += [map_at + 8, map_at + 23, map_at + 40, map_at + 47, map_at + 52, map_at + 256]
    table = [0, 446, 510, DISK - 512, DISK - 1]
    for change in (zero, *map(flip, [*places, *(byte for byte in table if not at <= byte < at + 4096)])):
        changed = disk.copy()
        change(changed)
        file.write_bytes(changed)
        after = target.ask("/dev/sda")
        in_sight = changed[:MIB] != disk[:MIB] or changed[-MIB:] != disk[-MIB:]
        assert (after != before) is in_sight


def somewhere_else(disk: bytearray) -> int:
    at, _ = superblock(disk, "1.2", Member(40, 4096))  # no partition begins there
    return at + 192


def wrong_version(disk: bytearray) -> int:
    at, _ = superblock(disk, "1.2", WHOLE)
    put(disk, at + 4, "<I", 2)
    return at + 192


def wrong_magic(disk: bytearray) -> int:
    at, _ = superblock(disk, "1.0", WHOLE)
    disk[at] ^= 1
    return at + 192


def of_another_place(disk: bytearray) -> int:
    """A copy of a superblock that says that it lies elsewhere."""
    at, _ = superblock(disk, "1.2", WHOLE)
    put(disk, at + 144, "<Q", 16)
    return at + 192


def bitmap_that_is_none(disk: bytearray) -> int:
    _, map_at = superblock(disk, "1.2", WHOLE, 8)
    disk[map_at] ^= 1
    return map_at + 24


def bitmap_that_is_not_named(disk: bytearray) -> int:
    at, map_at = superblock(disk, "1.2", WHOLE, 8)
    put(disk, at + 8, "<I", 0)
    return map_at + 24


@pytest.mark.parametrize(
    "make",
    [
        somewhere_else,
        wrong_version,
        wrong_magic,
        of_another_place,
        bitmap_that_is_none,
        bitmap_that_is_not_named,
        pytest.param(lambda _: 4096 + 192, id="no superblock at all"),
    ],
)
def test_what_only_looks_like_a_superblock_hides_nothing(target: Target, make: Callable[[bytearray], int]) -> None:
    disk = bytearray(os.urandom(DISK))
    place = make(disk)
    file = with_partitions(target, disk, EARLY, LATE)
    before = target.ask("/dev/sda")
    disk[place] ^= 1
    file.write_bytes(disk)
    assert target.ask("/dev/sda") != before


@pytest.mark.parametrize("strange", ["x; id", "", "-1", "99999999", "18446744073709551615"])
def test_partition_with_a_strange_place_is_left_alone(target: Target, strange: str) -> None:
    disk = bytearray(os.urandom(DISK))
    with_partitions(target, disk, EARLY)
    (target.root / "sys/block/sda/sda1/start").write_text(f"{strange}\n")
    said = target.ask("/dev/sda")
    assert said[0].startswith("/dev/sda ")
    assert len(said[0].split()) == 3


def test_bitmap_far_outside_the_disk_is_none(target: Target) -> None:
    disk = bytearray(os.urandom(DISK))
    superblock(disk, "1.2", WHOLE)
    put(disk, 8 * SECTOR + 8, "<I", 1)
    for distance in (-2147483648, 2147483647, -100):
        put(disk, 8 * SECTOR + 96, "<i", distance)
        (target.root / "dev/sda").unlink(missing_ok=True)
        if not (target.root / "sys/block/sda").exists():
            with_partitions(target, disk)
        (target.root / "dev/sda").write_bytes(disk)
        assert len(target.ask("/dev/sda")[0].split()) == 3


def test_several_disks_do_not_share_what_is_left_out(target: Target) -> None:
    first, second = bytearray(os.urandom(DISK)), bytearray(os.urandom(DISK))
    superblock(first, "1.2", WHOLE)
    with_partitions(target, first)
    file = target.disk("sdb", second)
    before = target.ask("/dev/sda", "/dev/sdb")
    second[8 * SECTOR + 192] ^= 1
    file.write_bytes(second)
    after = target.ask("/dev/sda", "/dev/sdb")
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


def intel(disk: bytearray, disks: int, *members: int, migrates: bool = False) -> list[int]:
    """Write Intel's metadata, with a volume for each number of members. Return the bytes that an assembly changes."""
    mpb = bytearray(216 + 48 * disks)
    put(mpb, 0, "32s", b"Intel Raid ISM Cfg Sig. 1.1.00")
    put(mpb, 56, "<BB", disks, len(members))
    dirty = []
    for number in members:
        dirty.append(len(mpb) + 90)
        maps = 2 if migrates else 1
        volume = bytearray(112)
        volume[:8], volume[88] = b"Volume0\0", int(migrates)
        one = bytearray(48 + 4 * number)
        one[16] = number
        mpb += volume + one * maps
    put(mpb, 36, "<I", len(mpb))
    more = (len(mpb) - 1) // SECTOR
    mpb += bytes(-len(mpb) % SECTOR)
    last = len(disk) - 2 * SECTOR
    disk[last : last + SECTOR] = mpb[:SECTOR]
    disk[last - more * SECTOR : last] = mpb[SECTOR:]

    def on_disk(at: int) -> int:
        return last + at if at < SECTOR else last - more * SECTOR + at - SECTOR

    return [on_disk(at) for at in (*range(32, 36), *range(44, 48), *dirty)]


@pytest.mark.parametrize(
    ("disks", "members", "migrates"),
    [
        pytest.param(2, (2,), False, id="a mirror"),
        pytest.param(2, (2, 2), False, id="two volumes, the second in another sector"),
        pytest.param(6, (4, 6), False, id="many disks"),
        pytest.param(2, (2, 2), True, id="volumes that migrate"),
    ],
)
def test_counters_of_intels_raid_are_left_out(
    target: Target, disks: int, members: tuple[int, ...], migrates: bool
) -> None:
    disk = bytearray(os.urandom(DISK))
    changes = intel(disk, disks, *members, migrates=migrates)
    file = target.disk("sda", disk)
    before = target.ask("/dev/sda")
    changed = disk.copy()
    for place in changes:
        changed[place] ^= 0xFF
    file.write_bytes(changed)
    assert target.ask("/dev/sda") == before
    last = DISK - 2 * SECTOR
    # The signature, the family, the number of disks, a disk's serial number, a volume's name, and around what changes.
    for place in (last, last + 40, last + 56, last + 216, last + 217, changes[-1] - 1, changes[-1] + 1, DISK - 1):
        seen = disk.copy()
        seen[place] ^= 1
        file.write_bytes(seen)
        assert target.ask("/dev/sda") != before, place


@pytest.mark.parametrize(("at", "value"), [(36, 0), (36, 0xFFFFFFFF), (57, 255), (56, 255)])
def test_damaged_metadata_of_intels_raid_hides_little(target: Target, at: int, value: int) -> None:
    disk = bytearray(os.urandom(DISK))
    place = intel(disk, 2, 2)[-1]
    put(disk, DISK - 2 * SECTOR + at, "<I" if at == 36 else "<B", value)
    file = target.disk("sda", disk)
    before = target.ask("/dev/sda")
    disk[place] ^= 1
    file.write_bytes(disk)
    assert target.ask("/dev/sda") != before
