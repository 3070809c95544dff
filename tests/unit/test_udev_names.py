"""A disk that the flake names by a link of udev, on an origin that has no udev: Alpine, or another one with mdev."""

from pathlib import Path

import pytest

from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.facts.facts import Facts
from holdfast.plan.disks import DiskoDisk, plan_disks
from holdfast.plan.same import same_disks
from tests.unit.cases import facts, host
from tests.unit.layouts import read

NAA = "naa.5002538e40a1b2c3"
SSD = {"model": "Samsung SSD 860", "wwid": NAA}
NVME = {"model": "Samsung SSD 980 PRO 1TB", "serial": "S5GXNX0T123456A", "wwid": "eui.0025385b11b2a3c4"}
OTHER = {"model": "OTHER", "serial": "OTHER1"}


def disk(name: str, number: str, ids: dict[str, str]) -> str:
    return "\n".join(f"{name} {key} {value}" for key, value in {"size": "4096", "number": number, **ids}.items())


def machine(name: str, ids: dict[str, str], told: str = "", links: str = "") -> Facts:
    disks = f"{disk(name, '8:0', ids)}\n{disk('xother', '8:16', OTHER)}"
    return facts("alpine", disks=disks, udev_serials=f"8:0 {told}" if told else "", disk_links=links)


@pytest.mark.parametrize(
    ("link", "name", "ids", "told"),
    [
        ("virtio-COTTAGE0001", "vda", {"serial": "COTTAGE0001"}, ""),
        ("virtio-a_disk", "vda", {"serial": "a disk"}, ""),
        ("wwn-0x5002538e40a1b2c3", "sda", SSD, ""),
        ("scsi-35002538e40a1b2c3", "sda", SSD, ""),
        # The kernel's model of an ATA disk ends after 16 characters.
        ("ata-Samsung_SSD_860_EVO_500GB_S3Z9NB0K100001", "sda", {**SSD, "model": "Samsung SSD 860 "}, "S3Z9NB0K100001"),
        ("ata-QEMU_HARDDISK_QM00001", "sda", {"model": "QEMU HARDDISK", "wwid": f"t10.ATA     {'QEMU':40}QM00001"}, ""),
        # Hetzner Cloud, and Proxmox.
        ("scsi-0QEMU_QEMU_HARDDISK_29838123", "sda", {"model": "QEMU HARDDISK"}, "29838123"),
        ("scsi-0QEMU_QEMU_HARDDISK_drive-scsi0", "sda", {"model": "QEMU HARDDISK"}, "drive-scsi0"),
        ("nvme-eui.0025385b11b2a3c4", "nvme0n1", NVME, ""),
        ("nvme-Samsung_SSD_980_PRO_1TB_S5GXNX0T123456A", "nvme0n1", NVME, ""),
        ("nvme-Samsung_SSD_980_PRO_1TB_S5GXNX0T123456A_1", "nvme0n1", NVME, ""),
        (
            "nvme-Amazon_Elastic_Block_Store_vol0f00",
            "nvme1n1",
            {"model": "Amazon Elastic Block Store", "serial": "vol0f00", "wwid": "nvme.1d0f-766f6c-41-00000001"},
            "",
        ),
        ("mmc-DF4032_0xa1b2c3d4", "mmcblk0", {"model": "DF4032", "serial": "0xa1b2c3d4"}, ""),
    ],
)
def test_the_disk_is_found_and_found_again(link: str, name: str, ids: dict[str, str], told: str) -> None:
    device = f"/dev/disk/by-id/{link}"
    wipe, *_ = plan_disks({"main": DiskoDisk(device=device)}, machine(name, ids, told), host(disks=[{"by_id": link}]))
    assert [(planned.name, planned.device, planned.by_id, planned.pinned) for planned in wipe] == [
        (name, device, device, True)
    ]
    # The installer has udev. What the link is there counts, not what it was taken for.
    same_disks(wipe, machine(name, ids, told, links=f"{device} {name}"))
    with pytest.raises(UnexpectedState, match=f"in the installer, and {device} is serial OTHER1"):
        same_disks(wipe, machine(name, ids, told, links=f"{device} xother"))
    with pytest.raises(UnexpectedState, match=f"in the installer, and there is no {device}"):
        same_disks(wipe, machine(name, ids, told))


@pytest.mark.parametrize(
    ("link", "ids"),
    [
        ("virtio-COTTAGE", {"serial": "COTTAGE0001"}),
        ("virtio-", {}),
        ("wwn-0x5002538e40a1b2c", SSD),
        ("wwn-0x", {"wwid": "t10.ATA"}),
        ("ata-OTHER_S3Z9NB0K100001", {**SSD, "serial": "S3Z9NB0K100001"}),
        ("ata-Samsung_SSD_860_EVO_500GB_", SSD),
        ("nvme-Samsung_SSD_980_PRO_1TB_S5GXNX0T123456A_2", NVME),
        ("virtio-COTTAGE0001-part1", {"serial": "COTTAGE0001"}),
    ],
)
def test_another_disk_is_not_taken_for_it(link: str, ids: dict[str, str]) -> None:
    device = f"/dev/disk/by-id/{link}"
    with pytest.raises(TargetRefused, match=f"{device} of the flake's .* is not on cottage") as refused:
        plan_disks({"main": DiskoDisk(device=device)}, machine("nvme0n1", ids), host(disks=[]))
    assert "no udev" in refused.value.hint


def test_two_disks_that_it_fits_are_neither() -> None:
    there = f"{disk('sda', '8:0', SSD)}\n{disk('sdb', '8:16', SSD)}"
    seen = facts("alpine", disks=there, udev_serials="8:0 S1\n8:16 S2", disk_links="")
    with pytest.raises(TargetRefused, match="is not on cottage"):
        plan_disks({"main": DiskoDisk(device="/dev/disk/by-id/wwn-0x5002538e40a1b2c3")}, seen, host(disks=[]))


def test_links_of_udev_count_where_it_is() -> None:
    device = "/dev/disk/by-id/virtio-COTTAGE0001"
    seen = machine("vda", {"serial": "COTTAGE0001"}, links="/dev/disk/by-path/pci-1 vda")
    with pytest.raises(TargetRefused, match="is not on cottage") as refused:
        plan_disks({"main": DiskoDisk(device=device)}, seen, host(disks=[]))
    assert "no udev" not in refused.value.hint


@pytest.mark.parametrize("busybox", [False, True])
@pytest.mark.parametrize("disks", [1, 2])
def test_serial_numbers_are_the_kernels_without_udev(tmp_path: Path, disks: int, *, busybox: bool) -> None:
    """The kernel has page 80h as the disk gives it: four bytes, the last of them a length (SPC-5, 7.7.18)."""
    serials = {"sda": b"10 letters", "sdb": b"  S3Z9NB0K100001    "}
    lines = []
    for number, (name, serial) in enumerate(list(serials.items())[:disks]):
        lines += [f"@ devices/pci0000:00/ata{number}/block/{name}", "size 4096", f"dev 8:{number * 16}"]
        page = tmp_path / f"root/sys/devices/pci0000:00/ata{number}/block/{name}/device/vpd_pg80"
        page.parent.mkdir(parents=True)
        page.write_bytes(b"\0\x80\0" + bytes([len(serial)]) + serial)
    seen = read("\n".join(lines)).make(tmp_path, busybox=busybox)
    assert {one.name: one.serial for one in seen.disks} == {
        name: serial.decode().strip() for name, serial in list(serials.items())[:disks]
    }
