"""What facts.sh and its parser make of real layouts of disks (tests/unit/facts/layouts/)."""

import shutil
from pathlib import Path

import pytest

from holdfast.facts.facts import Facts
from tests.unit.layouts import LAYOUTS, layout
from tests.unit.layouts_page import PAGE, page

# The disks, with what is on them; then the groups.
EXPECTED = {
    "bcache": """
        sda: sda1 ext4 at /boot; sda2 bcache with bcache0 at /
        sdb: sdb bcache with bcache0 at /
        bcache bcache0 on sda, sdb at /
    """,
    "bcachefs-two-disks": """
        sda: sda1 vfat at /boot; sda2 bcachefs at /
        sdb: sdb bcachefs at /
        bcachefs b4f1b2c4-0001-4222-8333-444455556666 on sda, sdb at /
    """,
    "btrfs-two-disks": """
        sda: sda1 vfat at /boot/efi; sda2 btrfs 'LIVE' at /, /home
        sdb: sdb btrfs 'LIVE' at /, /home
        btrfs LIVE on sda, sdb at /, /home
    """,
    "centos-7": """
        sda: sda1 xfs at /boot; sda2 LVM 'centos' with centos-root, centos-swap at /, [swap]
        LVM volume group centos on sda at /, [swap]
    """,
    "emmc": """
        mmcblk0: mmcblk0p1 vfat 'bootfs' at /boot/firmware; mmcblk0p2 ext4 'rootfs' at /
        mmcblk0boot0: empty, or unknown content
        mmcblk0boot1: empty, or unknown content
    """,
    "lvm-on-luks": """
        nvme0n1: nvme0n1p1 vfat at /boot/efi; nvme0n1p2 ext4 at /boot; \
nvme0n1p3 LUKS with dm_crypt-0, ubuntu--vg-ubuntu--lv, ubuntu--vg-swap at /, [swap]
        LUKS dm_crypt-0 on nvme0n1 at /, [swap]
        LVM volume group ubuntu-vg on nvme0n1 at /, [swap]
    """,
    "lvm-two-disks": """
        sda: sda1 ext4 at /boot; sda2 LVM 'office-vg' with office--vg-root, office--vg-home at /, /home
        sdb: sdb LVM 'office-vg' with office--vg-root, office--vg-home at /, /home
        sdc: sdc LVM 'office-vg' with office--vg-root, office--vg-home at /, /home
        LVM volume group office-vg on sda, sdb, sdc at /, /home
    """,
    "multipath": """
        dm-0 by sda, sdb: dm-1 ext4 at /boot; dm-2 LVM 'san' with san-root at /
        LVM volume group san on dm-0 at /
    """,
    "multipath-without-daemon": """
        sda by sda, sdb: sda1 ext4 at /boot; sda2 LVM
    """,
    "nvme-multipath": """
        nvme0n1: nvme0n1p1 vfat at /boot/efi; nvme0n1p2 xfs at /
    """,
    "nvme-namespaces": """
        nvme0n1: empty, or unknown content
        nvme0n2: nvme0n2p1 ext4 at /
    """,
    "plain": """
        sda: sda1 vfat at /boot/efi; sda2 ext4 at /
        sdb: sdb1 ext4 'films' at /srv
    """,
    "raid1-lvm": """
        sda: sda1 unknown content; sda2 RAID 'web:root' with md127, vg0-root at /
        sdb: sdb1 unknown content; sdb2 RAID 'web:root' with md127, vg0-root at /
        RAID array md127 on sda, sdb at /
        LVM volume group vg0 on sda, sdb at /
    """,
    "raid1-root": """
        sda: sda1 unknown content; sda2 RAID 'rescue:0' with md0 at [swap]; \
sda3 RAID 'rescue:1' with md1 at /boot; sda4 RAID 'rescue:2' with md2 at /
        sdb: sdb1 unknown content; sdb2 RAID 'rescue:0' with md0 at [swap]; \
sdb3 RAID 'rescue:1' with md1 at /boot; sdb4 RAID 'rescue:2' with md2 at /
        RAID array md0 on sda, sdb at [swap]
        RAID array md1 on sda, sdb at /boot
        RAID array md2 on sda, sdb at /
    """,
    "rescue": """
        sda: sda1 RAID 'web:boot'; sda2 LVM 'vg0'; sda3 btrfs
        sdb: sdb1 RAID 'web:boot'; sdb2 LVM 'vg0'; sdb3 btrfs
        RAID array web:boot on sda, sdb
        btrfs a3f1b2c4-0002-4222-8333-444455556666 on sda, sdb
        LVM volume group vg0 on sda, sdb
    """,
    "virtual-devices": """
        xvda: xvda1 ext4 at /
        xvdb: xvdb unknown content with drbd0 at /data
        DRBD drbd0 on xvdb at /data
    """,
    "zfs-mirror": """
        sda: sda1 unknown content; sda2 vfat; sda3 ZFS 'rpool' with zd0, zd16 at /, /rpool, [swap]
        sdb: sdb1 unknown content; sdb2 vfat; sdb3 ZFS 'rpool' with zd0, zd16 at /, /rpool, [swap]
        ZFS pool rpool on sda, sdb at /, /rpool, [swap]
    """,
}


def seen_of(facts: Facts) -> list[str]:
    return [
        *(
            f"{disk.name}{' by ' if disk.paths else ''}{', '.join(disk.paths)}: {disk.describe_content()}"
            for disk in facts.disks
        ),
        *(
            f"{group.kind} {group.name} on {', '.join(group.disks)}"
            f"{' at ' if group.mountpoints else ''}{', '.join(group.mountpoints)}"
            for group in facts.groups
        ),
    ]


def test_each_layout_is_expected_to_show_something() -> None:
    assert sorted(EXPECTED) == LAYOUTS


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("lsblk", [True, False], ids=["lsblk with JSON", "old lsblk"])
def test_layout_is_told_whatever_lsblk_can_do(tmp_path: Path, name: str, *, lsblk: bool) -> None:
    facts = layout(name).make(tmp_path, lsblk=lsblk)
    assert seen_of(facts) == [line.strip() for line in EXPECTED[name].strip().splitlines()]


def test_page_of_layouts_says_what_the_plan_says(tmp_path: Path) -> None:
    assert PAGE.read_text() == page(tmp_path), "write it anew: python -m tests.unit.layouts_page"


@pytest.mark.parametrize("name", ["multipath", "zfs-mirror", "lvm-on-luks"])
def test_layout_is_told_with_busybox_alone(tmp_path: Path, name: str) -> None:
    if not shutil.which("busybox"):
        pytest.skip("there is no busybox")
    facts = layout(name).make(tmp_path, lsblk=False, busybox=True)
    assert seen_of(facts) == [line.strip() for line in EXPECTED[name].strip().splitlines()]
