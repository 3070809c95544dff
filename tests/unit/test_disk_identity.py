"""Which disks are the same: in two systems of one machine, and in one of them."""

import pytest

from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.plan.disks import DiskoDisk, plan_disks
from holdfast.plan.same import same_disks
from tests.unit.cases import facts, host, plan

LINK = "/dev/disk/by-id/the-disk"
MAIN = {"main": DiskoDisk(device=LINK)}
NAA = "naa.5000c500a1b2c3d4"
EUI = "eui.0025388b710"
NGUID = "eui.36344730524000190025384500000001"
QEMU = f"t10.ATA     {'QEMU HARDDISK':40}QM00001"


def disk(name: str, **ids: str) -> str:
    values = {"size": "4096", "number": "8:0" if name.endswith("a") else "8:16", **ids}
    return "\n".join(f"{name} {key} {value}" for key, value in values.items())


@pytest.mark.parametrize(
    ("origin", "installer"),
    [
        # A system with udev sees a serial number that one without does not.
        (("sda", {"wwid": NAA}, ""), ("sda", {"wwid": NAA}, "8:0 ZA1B2C3D")),
        (("sda", {"wwid": NAA}, "8:0 ZA1B2C3D"), ("sda", {"wwid": NAA}, "")),
        (("sda", {"wwid": QEMU}, ""), ("sda", {"wwid": QEMU}, "8:0 QM00001")),
        (("sda", {}, ""), ("sda", {}, "8:0 USB123")),
        (("nvme0n1", {"serial": "S5", "wwid": EUI + "00001"}, ""), ("nvme0n1", {"serial": "S5"}, "8:16 S5")),
        (("vda", {"serial": "COTTAGE0001"}, ""), ("vda", {"serial": "COTTAGE0001"}, "8:0 COTTAGE0001")),
        # Another kernel has another name for it: it tells the NGUID where the old one had the EUI-64, or nothing.
        (("nvme0n1", {"serial": "S5", "wwid": EUI + "00001"}, ""), ("nvme0n1", {"serial": "S5", "wwid": NGUID}, "")),
        (
            ("nvme0n1", {"serial": "S5", "wwid": EUI + "00001"}, ""),
            ("nvme0n1", {"serial": "S5", "wwid": "nvme.144d-5335-4d-00000001"}, ""),
        ),
    ],
)
def test_a_disk_is_the_same_whatever_system_looks(
    origin: tuple[str, dict[str, str], str], installer: tuple[str, dict[str, str], str]
) -> None:
    before, after = (
        facts(case, disks=disk(name, **ids), udev_serials=udev, disk_links=f"{LINK} {name}")
        for case, (name, ids, udev) in (("debian-12", origin), ("installer", installer))
    )
    first, second = (plan(seen, host(disks=[]), devices={"main": LINK}) for seen in (before, after))
    same_disks(first.wipe, after)
    assert first.digest == second.digest


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"serial": "SN: 000001", "wwid": EUI + "00001"}, {"serial": "SN: 000001", "wwid": EUI + "00002"}),
        ({"serial": "S5", "wwid": "nvme.1-2-3-00000001"}, {"serial": "S5", "wwid": "nvme.1-2-3-00000002"}),
        ({"serial": "LUN", "wwid": NAA}, {"serial": "LUN", "wwid": NAA[:-1] + "5"}),
        ({"wwid": NAA}, {"wwid": NAA[:-1] + "5"}),
        ({"serial": "S1"}, {"serial": "S2"}),
        # Makers give some series of disks one world-wide ID.
        ({"serial": "S1", "wwid": "t10.X"}, {"serial": "S2", "wwid": "t10.X"}),
        ({"serial": "S1", "wwid": "naa.5000000000000000"}, {"serial": "S2", "wwid": "naa.5000000000000000"}),
        ({"serial": "S1", "wwid": "eui.0000000000000001"}, {"serial": "S2", "wwid": "eui.0000000000000001"}),
    ],
)
def test_disks_of_one_size_are_told_apart(first: dict[str, str], second: dict[str, str]) -> None:
    there = disk("xa", **first) + "\n" + disk("xb", **second)
    seen = facts("debian-12", disks=there, udev_serials="", disk_links=f"{LINK} xb")
    wipe, _, keep, _ = plan_disks(MAIN, seen, host(disks=[]))
    assert [(planned.name, planned.wwid) for planned in wipe] == [("xb", second.get("wwid", ""))]
    assert [planned.name for planned in keep] == ["xa"]
    # In the installer the kernel counts them the other way round.
    swapped = there.replace("xa", "x").replace("xb", "xa").replace("x ", "xb ")
    same_disks(wipe, facts("installer", disks=swapped, udev_serials="", disk_links=f"{LINK} xa"))
    with pytest.raises(UnexpectedState, match="is /dev/xa in the installer, and"):
        same_disks(wipe, facts("installer", disks=swapped, udev_serials="", disk_links=f"{LINK} xb"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"serial": "S1"}, {"serial": "S1"}),
        ({"serial": "S1", "wwid": EUI + "00001"}, {"serial": "S1"}),
        ({"serial": "S1", "wwid": EUI + "00001"}, {"serial": "S1", "wwid": "nvme.1-2-3-00000001"}),
        ({"serial": "S1", "wwid": "t10.X"}, {"serial": "", "wwid": "t10.X"}),
    ],
)
def test_disks_that_nothing_tells_apart_are_refused(first: dict[str, str], second: dict[str, str]) -> None:
    there = disk("xa", **first) + "\n" + disk("xb", **second)
    seen = facts("debian-12", disks=there, udev_serials="", disk_links=f"{LINK} xb")
    with pytest.raises(TargetRefused, match="/dev/disk/by-id/the-disk on cottage cannot be told from /dev/xa"):
        plan_disks(MAIN, seen, host(disks=[]))


def test_serial_number_that_two_disks_have_in_the_installer_finds_none_of_them() -> None:
    """The origin's kernel told no world-wide ID: which of the namespaces it was is not known."""
    alone = facts("debian-12", disks=disk("nvme0n1", serial="S5"), disk_links=f"{LINK} nvme0n1")
    wipe, *_ = plan_disks(MAIN, alone, host(disks=[]))
    both = [disk(f"nvme0n{number}", serial="S5", wwid=f"{EUI}0000{number}") for number in (1, 2)]
    with pytest.raises(
        UnexpectedState, match="cannot be told from others in the installer: /dev/nvme0n1, /dev/nvme0n2"
    ):
        same_disks(wipe, facts("installer", disks="\n".join(both), disk_links=f"{LINK} nvme0n1"))
