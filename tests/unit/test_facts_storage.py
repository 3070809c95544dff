"""What is a disk, what lies on it, and how healthy it is: each kind of device and of answer, one at a time."""

import json
from pathlib import Path

import pytest
from hypothesis import given

from holdfast.facts.facts import Facts, parse_facts
from holdfast.plan.disks import plan_disks
from tests.unit.cases import CASES, disko, facts, host, plan
from tests.unit.hostile import answered, mixed, quick
from tests.unit.layouts import layout, read
from tests.unit.test_hostile_facts import everything_of

PCI = "devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block"
BARE = {"lsblk": "", "blkid": "", "mountinfo": "", "udev_serials": "", "disk_links": "", "swaps": ""}
DASHES = "     -      -      -        -         -      -      -      -         -"
SDA = "sda size 100\nsda number 8:0\nsda partition sda1 8 8:1\nsda partition sda2 90 8:2"
SDB = "sdb size 100\nsdb number 8:16\nsdb partition sdb1 90 8:17"


def groups_of(seen: Facts) -> list[str]:
    return [
        f"{group.kind} {group.name} on {','.join(group.disks)} at {','.join(group.mountpoints)}"
        for group in seen.groups
    ]


class TestDisks:
    @pytest.mark.parametrize(
        "folder",
        [
            f"{PCI}/sda",
            "devices/pci0000:00/0000:00:04.0/virtio1/block/vda",
            "devices/vbd-51712/block/xvda",
            "devices/pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0/nvme0n1",
            "devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1",
            "devices/virtual/nvme-fabrics/ctl/nvme0/nvme0n1",
            "devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0",
            "devices/css0/0.0.0000/0.0.0200/block/dasda",
            "devices/platform/uml-blkdev.0/block/ubda",
            "devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00/ndbus0/region0/namespace0.0/block/pmem0",
            "devices/platform/host3/session1/target3:0:0/3:0:0:1/block/sdc",
        ],
    )
    def test_is_a_disk(self, tmp_path: Path, folder: str) -> None:
        seen = read(f"@ {folder}\nsize 4096\ndev 8:0").make(tmp_path)
        assert [disk.name for disk in seen.disks] == [folder.split("/")[-1]]

    @pytest.mark.parametrize(
        "name",
        ["zd0", "bcache3", "md127", "md_d0", "dm-7", "nbd2", "drbd0", "ublkb0", "nullb0", "etherd!e1.0", "emcpowera"],
    )
    def test_is_none(self, tmp_path: Path, name: str) -> None:
        seen = read(f"@ {PCI}/sda\nsize 4096\n@ devices/virtual/block/{name}\nsize 4096\ndev 250:0").make(tmp_path)
        assert [disk.name for disk in seen.disks] == ["sda"]

    @pytest.mark.parametrize("name", ["zd0", "bcache3", "md127", "dm-7", "nbd2", "drbd0", "rbd1", "vxdmp1"])
    def test_is_none_in_a_sysfs_without_links(self, tmp_path: Path, name: str) -> None:
        """What it lies on shows it, or the kernel's name for it."""
        text = f"/ sys/block/sda/size 4096\n/ sys/block/{name}/size 4096\n"
        seen = read(text + (f"/ sys/block/{name}/slaves/sda x\n" if name == "vxdmp1" else "")).make(tmp_path)
        assert [disk.name for disk in seen.disks] == ["sda"]

    @pytest.mark.parametrize("slaves", ["", "on nvme0c0n1 nvme0c1n1"])
    def test_hidden_path_is_none_and_its_head_is_a_disk(self, tmp_path: Path, slaves: str) -> None:
        head = f"@ devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1\nsize 4096\nserial S\nwwid eui.1\n{slaves}\n"
        paths = "".join(
            f"@ devices/pci/nvme/nvme{number}/nvme0c{number}n1\nsize 4096\nhidden 1\nserial S\nwwid eui.1\n"
            for number in (0, 1)
        )
        seen = read(head + paths).make(tmp_path)
        assert [disk.name for disk in seen.disks] == ["nvme0n1"]
        disks = plan_disks(disko({"main": "/dev/nvme0n1"}), seen, host(disks=[{"serial": "S"}]))
        assert [disk.name for disk in disks.wipe] == ["nvme0n1"]

    def test_slash_in_a_device_file(self, tmp_path: Path) -> None:
        disk = "@ devices/pci0000:00/cciss0/block/cciss!c0d0\nsize 4096\ndev 104:0\npart cciss!c0d0p1 104:1 4000\n"
        text = f'{disk}mount 1 1 104:1 / / rw - ext4 /dev/root rw\n$ blkid\n  /dev/cciss/c0d0p1: TYPE="ext4"\n'
        (found,) = read(text).make(tmp_path, lsblk=False).disks
        assert (found.path, found.describe_content()) == ("/dev/cciss/c0d0", "cciss!c0d0p1 ext4 at /")


class TestPaths:
    @pytest.mark.parametrize(
        "device",
        [
            "/dev/mapper/mpatha",
            "/dev/dm-0",
            "/dev/sdb",
            "/dev/disk/by-id/dm-uuid-mpath-3600140512345678901234567890abcde",
            "/dev/disk/by-id/wwn-0x600140512345678901234567890abcde",
            "/dev/disk/by-path/pci-0000:04:00.2-fc-0x2100-lun-1",
        ],
    )
    def test_disk_with_two_paths_is_named_by_any_of_them(self, tmp_path: Path, device: str) -> None:
        seen = layout("multipath").make(tmp_path)
        disks = plan_disks(disko({"main": device}), seen, host(disks=[]))
        assert ([disk.name for disk in disks.wipe], disks.keep) == (["dm-0"], ())
        assert disks.wipe[0].wwid == "naa.600140512345678901234567890abcde"

    @pytest.mark.parametrize(
        ("device", "warned"),
        [
            ("/dev/mapper/mpatha", True),
            ("/dev/disk/by-id/dm-name-mpatha", True),
            ("/dev/disk/by-id/wwn-0x600140512345678901234567890abcde", False),
        ],
    )
    def test_name_that_only_multipathd_gives_is_warned_of(self, tmp_path: Path, device: str, *, warned: bool) -> None:
        warnings = plan(layout("multipath").make(tmp_path), host(disks=[]), devices={"main": device}).warnings
        assert any("only if the image runs multipathd" in warning for warning in warnings) is warned
        assert not any("the kernel's name" in warning for warning in warnings)

    def test_partitions_of_a_map_are_those_of_its_paths(self, tmp_path: Path) -> None:
        (disk,) = layout("multipath").make(tmp_path).disks
        assert [(part.name, part.size_bytes) for part in disk.partitions] == [
            ("dm-1", 1048576 * 512),
            ("dm-2", 418379776 * 512),
        ]

    @pytest.mark.parametrize(
        "changed",
        [
            {"wwid": "t10.ATA Model Serial"},
            {"wwid": "nvme.8086-43-49-00000001"},
            {"size": "101"},
            {"model": "Other"},
            {"serial": "OTHER"},
            {"partition": "sdb1 7"},
        ],
    )
    def test_disks_that_only_seem_the_same_stay_apart(self, changed: dict[str, str]) -> None:
        same = {"size": "100", "wwid": "naa.600140512345678901234567890abcde", "model": "DISK", "serial": "S"}
        both = (("sda", same | ({"wwid": changed["wwid"]} if "wwid" in changed else {})), ("sdb", same | changed))
        disks = "\n".join(f"{name} {key} {value}" for name, values in both for key, value in values.items())
        assert [disk.paths for disk in facts("debian-12", **BARE | {"disks": disks}).disks] == [(), ()]

    @pytest.mark.parametrize(("second", "apart"), [("S2", True), ("S1", False)])
    def test_disks_with_one_world_wide_id_are_two_if_udev_knows_two_serial_numbers(
        self, second: str, *, apart: bool
    ) -> None:
        """Some makers give a whole series of disks the same WWN."""
        disks = "\n".join(
            f"sd{name} size 100\nsd{name} number {number}\nsd{name} wwid naa.5000000000000000\nsd{name} model SSD"
            for name, number in (("a", "8:0"), ("b", "8:16"))
        )
        seen = facts("debian-12", **BARE | {"disks": disks, "udev_serials": f"8:0 S1\n8:16 {second}"})
        assert [disk.name for disk in seen.disks] == (["sda", "sdb"] if apart else ["sda"])

    def test_one_that_may_be_written_by_any_path_is_not_read_only(self) -> None:
        for locked, read_only in (("01", False), ("11", True)):
            disks = "\n".join(
                f"sd{name} size 100\nsd{name} wwid naa.6001\nsd{name} readonly {lock}"
                for name, lock in zip("ab", locked, strict=True)
            )
            (disk,) = facts("debian-12", **BARE | {"disks": disks}).disks
            assert (disk.paths, disk.readonly) == (("sda", "sdb"), read_only)


class TestGraph:
    @pytest.mark.parametrize(
        ("said", "mounted", "groups"),
        [
            # A file system without an initrd: the kernel calls its device /dev/root.
            (
                {"mountinfo": "1 1 8:2 / / rw - ext4 /dev/root rw"},
                {"sda2": ("/",)},
                [],
            ),
            (
                {
                    "mountinfo": "1 1 0:20 / / rw - btrfs /dev/root rw",
                    "file_systems": "btrfs u-1 sda2\nbtrfs u-1 sdb1",
                },
                {"sda2": ("/",), "sdb1": ("/",)},
                ["btrfs u-1 on sda,sdb at /"],
            ),
            (
                {
                    "mountinfo": "1 1 0:20 / / rw - btrfs /dev/root rw\n2 1 0:21 / /srv rw - btrfs /dev/sda1 rw",
                    "blkid": '/dev/sda1: UUID="u-2" TYPE="btrfs"\n/dev/sdb1: UUID="u-1" TYPE="btrfs"',
                },
                {"sda1": ("/srv",), "sdb1": ("/",)},
                ["btrfs u-2 on sda at /srv", "btrfs u-1 on sdb at /"],
            ),
            # btrfs on LUKS on both disks, mounted by the second.
            (
                {
                    "stacked": "dm-0 253:0 9 sda2 CRYPT-LUKS2-aa-one one\ndm-1 253:1 9 sdb1 CRYPT-LUKS2-bb-two two",
                    "blkid": '/dev/mapper/one: UUID="u-1" TYPE="btrfs"\n/dev/mapper/two: UUID="u-1" TYPE="btrfs"',
                    "mountinfo": "1 1 0:20 / / rw - btrfs /dev/mapper/two rw",
                },
                {"sda2": ("/",), "sdb1": ("/",)},
                ["btrfs u-1 on sda,sdb at /", "LUKS one on sda at /", "LUKS two on sdb at /"],
            ),
            # A volume group whose PVs are arrays; the volume of one disk counts for both.
            (
                {
                    "stacked": f"md0 9:0 9 sda2,sdb1 - -\ndm-0 253:0 9 md0 LVM-{'a' * 64} vg-a--b",
                    "mountinfo": "1 1 253:0 / /x rw - xfs /dev/mapper/vg-a--b rw",
                },
                {"sda2": ("/x",), "sdb1": ("/x",)},
                ["RAID array md0 on sda,sdb at /x", "LVM volume group vg on sda,sdb at /x"],
            ),
            (
                {"volume_groups": "  /dev/sda2  vg0\n  /dev/sdb1  vg0\n  /dev/sda1\n  [unknown]  vg0"},
                {},
                ["LVM volume group vg0 on sda,sdb at "],
            ),
            # A pool by its tool alone: neither udev nor blkid knows ZFS there.
            (
                {
                    "pools": "tank\t1\t2\n\traidz1-0\t1\n\t/dev/sda2\t1\n\t/dev/sdb1\t1\n",
                    "mountinfo": "1 1 0:20 / /tank rw - zfs tank/data rw",
                },
                {"sda2": ("/tank",), "sdb1": ("/tank",)},
                ["ZFS pool tank on sda,sdb at /tank"],
            ),
            # What else a pool has stands below a line without a tab, also with -H (openzfs/zfs#13123).
            (
                {
                    "pools": f"tank\t9\t1\n\t/dev/sda2\t9\nspecial {DASHES}\n\t/dev/sdb1\t9\nlogs {DASHES}\n"
                    f"\t/dev/sda1\t9\nspecial\t9\t1\n\t/srv/pool.img\t9\ncache {DASHES}\n\t/dev/sdb1\t9\n",
                    "mountinfo": "1 1 0:20 / /tank rw - zfs tank rw\n2 1 0:21 / /cold rw - zfs special rw",
                },
                {"sda1": ("/tank",), "sda2": ("/tank",), "sdb1": ("/tank", "/cold")},
                ["ZFS pool tank on sda,sdb at /tank", "ZFS pool special on sdb at /cold"],
            ),
            # The journal of ext4 on another disk: without it, the file system is not whole.
            (
                {
                    "blkid": '/dev/sda2: UUID="j-1" LOGUUID="j-1" TYPE="jbd"\n'
                    '/dev/sdb1: UUID="u-1" EXT_JOURNAL="j-1" BLOCK_SIZE="4096" TYPE="ext4"',
                    "mountinfo": "1 1 8:17 / /srv rw - ext4 /dev/sdb1 rw",
                },
                {"sda2": ("/srv",), "sdb1": ("/srv",)},
                ["ext4 with its journal elsewhere j-1 on sda,sdb at /srv"],
            ),
            # A blkid that does not know bcachefs, and no /sys/fs/bcachefs: the mount names the devices.
            (
                {"mountinfo": "1 1 0:26 / /srv rw - bcachefs /dev/sda2:/dev/sdb1 rw"},
                {"sda2": ("/srv",), "sdb1": ("/srv",)},
                ["bcachefs /dev/sda2:/dev/sdb1 on sda,sdb at /srv"],
            ),
            # Swap on a volume of the only pool, without a link in /dev/zvol.
            (
                {
                    "stacked": "zd0 230:0 9 - - -",
                    "blkid": '/dev/sda2: LABEL="tank" UUID="1" TYPE="zfs_member"',
                    "swaps": "Filename\n/dev/zd0 partition 1 0 -2",
                },
                {"sda2": ("[swap]",)},
                ["ZFS pool tank on sda at [swap]"],
            ),
            # A file system on a partition of an array.
            (
                {
                    "stacked": "md0 9:0 9 sda2,sdb1 - -\nmd0p1 259:0 - md0 part -",
                    "mountinfo": "1 1 259:0 / / rw - ext4 /dev/md0p1 rw",
                },
                {"sda2": ("/",), "sdb1": ("/",)},
                ["RAID array md0 on sda,sdb at /"],
            ),
            # Snapshots and thin pools: what LVM keeps for itself has no name to show.
            (
                {
                    "stacked": f"dm-0 253:0 9 sda2 LVM-{'a' * 64}-real vg-root-real\n"
                    f"dm-1 253:1 9 dm-0,dm-2 LVM-{'a' * 64} vg-root\ndm-2 253:2 9 sdb1 LVM-{'b' * 64}-cow vg-snap-cow",
                    "mountinfo": "1 1 253:1 / / rw - ext4 /dev/mapper/vg-root rw",
                },
                {"sda2": ("/",), "sdb1": ("/",)},
                ["LVM volume group vg on sda,sdb at /"],
            ),
        ],
    )
    def test_mounted_below_and_beside(
        self, said: dict[str, str], mounted: dict[str, tuple[str, ...]], groups: list[str]
    ) -> None:
        seen = facts("debian-12", **BARE | {"disks": f"{SDA}\n{SDB}"} | said)
        parts = [part for disk in seen.disks for part in disk.partitions]
        assert {part.name: part.mountpoints for part in parts if part.mountpoints} == mounted
        assert groups_of(seen) == groups

    def test_recorded_answers_of_an_older_script_are_read(self) -> None:
        later = ("stacked", "file_systems", "pools", "volume_groups", "health")
        for case in CASES.glob("*.json"):
            said = {key: value for key, value in json.loads(case.read_text()).items() if key not in later}
            seen = parse_facts("{\n" + json.dumps(said)[1:], "cottage")
            assert seen.disks == facts(case.stem).disks
            assert all(disk.health == "" for disk in seen.disks)

    def test_lsblk_alone_tells_the_groups(self) -> None:
        assert groups_of(facts("ubuntu-lvm")) == [
            "LVM volume group ubuntu-vg on sda at /,[swap]",
            "LUKS dm_crypt-0 on sda at /",
        ]

    def test_cycles_and_chains_end(self) -> None:
        cycle = "dm-0 253:0 9 dm-1,sda2 - a\ndm-1 253:1 9 dm-0,dm-1 - b\n"
        chain = "\n".join(f"dm-{number} 253:{number} 9 dm-{number + 1},sdb1 - m{number}" for number in range(2, 9000))
        mounts = "1 1 253:0 / /a rw - ext4 /dev/dm-0 rw\n2 1 253:2 / /b rw - ext4 /dev/dm-2 rw"
        seen = facts("debian-12", **BARE | {"disks": f"{SDA}\n{SDB}", "stacked": cycle + chain, "mountinfo": mounts})
        assert (seen.disks[0].mountpoints, seen.disks[1].mountpoints) == (("/a",), ("/b",))

    def test_as_many_devices_and_mounts_as_the_answer_holds(self) -> None:
        disks = "\n".join(f"d{number} size 9\nd{number} partition d{number}p1 9 9:{number}" for number in range(250))
        stacked = "\n".join(
            f"dm-{number} 253:{number} 9 {','.join(f'd{(number + more) % 250}p1' for more in range(4))} - m{number}"
            for number in range(5000)
        )
        mounts = "\n".join(f"1 1 253:{number} / /m{number} rw - ext4 /dev/dm-{number} rw" for number in range(8000))
        seen = facts("debian-12", **BARE | {"disks": disks, "stacked": stacked, "mountinfo": mounts})
        assert all(disk.mountpoints for disk in seen.disks)
        assert len(seen.groups) == 1024

    @quick
    @given(mixed, mixed, mixed, mixed, mixed, mixed)
    def test_nonsense(self, stacked: str, systems: str, pools: str, groups: str, health: str, label: str) -> None:
        said = {
            "stacked": f"dm-0 253:0 9 sda2 {stacked}\n{stacked}\nmd0 9:0 9 sda1,{label} - {label}",
            "file_systems": f"btrfs {systems} sda2\nbtrfs {label} sdb1\n{systems}",
            "pools": f"{pools}\n\t/dev/sda2\n{pools}\n\t/{label}",
            "volume_groups": f"/dev/sda2 {groups}\n{groups}",
            "health": f"sda {health}\nsdb 8 test result: {health}; - {label}",
            "blkid": f'/dev/sda2: LABEL="{label}" UUID="{label}" TYPE="btrfs"',
            "mountinfo": f"1 1 0:3 / /{label} rw - btrfs /dev/{label} rw\n1 1 0:4 / /x rw - zfs {pools} rw",
        }
        seen = answered(lambda: facts("debian-12", **BARE | {"disks": f"{SDA}\n{SDB}"} | said))
        if seen:
            assert [disk.name for disk in seen.disks] == ["sda", "sdb"]
            everything_of(seen)


PASSED = "SMART overall-health self-assessment test result: PASSED"
FAILED = "SMART overall-health self-assessment test result: FAILED!"


class TestHealth:
    @pytest.mark.parametrize(
        ("said", "status", "health"),
        [
            (PASSED, 0, "passed"),
            ("SMART Health Status: OK", 0, "passed"),
            # Bit 5: an attribute was at its limit in the past.
            (f"{PASSED}\n  Please note the following marginal Attributes:", 32, "passed"),
            # Bit 2: some command of the SMART feature set is missing.
            (PASSED, 4, "passed"),
            (f"{FAILED}\n  Drive failure expected in less than 24 hours. SAVE ALL DATA.", 24, "failing: FAILED!"),
            (
                f"{FAILED}\n  - available spare has fallen below threshold\n  - reliability has been degraded",
                8,
                "failing: FAILED!, available spare has fallen below threshold, reliability has been degraded",
            ),
            (
                "SMART Health Status: FAILURE PREDICTION THRESHOLD EXCEEDED [asc=5d, ascq=0]",
                8,
                "failing: FAILURE PREDICTION THRESHOLD EXCEEDED [asc=5d, ascq=0]",
            ),
            (PASSED, 16, "failing: attributes that foretell a failure"),
            ("Device is in STANDBY mode, exit(2)", 2, ""),
            ("/dev/sda: Unknown USB bridge [0x0bda:0x9210 (0xf200)]", 1, ""),
            ("Smartctl open device: /dev/sda failed: Permission denied", 2, ""),
            ("SMART support is: Unavailable - device lacks SMART capability.", 4, ""),
            ("", 0, ""),
        ],
    )
    def test_what_smartctl_says(self, tmp_path: Path, said: str, status: int, health: str) -> None:
        text = f"@ {PCI}/sda\nsize 4096\n$ smartctl\n  smartctl 7.3 2022-02-28 r5338\n  \n  {said}\n"
        (disk,) = read(text).make(tmp_path, statuses={"smartctl": status}).disks
        assert disk.health == health

    def test_path_that_fails_speaks_for_the_disk(self) -> None:
        disks = "sda size 100\nsda wwid naa.6001\nsdb size 100\nsdb wwid naa.6001"
        health = f"sda 0 {PASSED}\nsdb 8 {FAILED}"
        (disk,) = facts("debian-12", **BARE | {"disks": disks, "health": health}).disks
        assert disk.health == "failing: FAILED!"

    def test_sleeping_disk_is_not_woken(self, tmp_path: Path) -> None:
        seen = read(f"@ {PCI}/sda\nsize 4096\n$ smartctl\n  $*\n").make(tmp_path)
        assert seen.disks[0].health == ""
        assert (tmp_path / "tools/smartctl.asked").read_text() == "-n standby -H /dev/sda\n"

    def test_disk_without_such_a_report_is_not_asked(self, tmp_path: Path) -> None:
        disks = "".join(f"@ devices/pci/block/{name}\nsize 4096\n" for name in ("vda", "xvda", "mmcblk0", "nvme0n1"))
        disks += "@ devices/pci/nvme/nvme0/nvme0c0n1\nsize 4096\nhidden 1\n@ devices/virtual/block/dm-0\nsize 4096\n"
        read(f"{disks}$ smartctl\n  {PASSED}\n").make(tmp_path)
        assert (tmp_path / "tools/smartctl.asked").read_text() == "-n standby -H /dev/nvme0n1\n"
