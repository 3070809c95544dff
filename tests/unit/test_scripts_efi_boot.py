"""efi-boot.sh: what it writes into a firmware's variables, byte by byte, in folders that stand for them."""

import json
from pathlib import Path

import pytest

from holdfast.facts.efi import EfiEntry
from tests.unit.conftest import Userland
from tests.unit.efi_machine import (
    BBS,
    CD,
    ESP_GUID,
    GRUB,
    NETWORK,
    NEW_ENTRY,
    NVME,
    OLD_GUID,
    REMOVABLE,
    SETUP,
    STANDBY,
    STANDBY_ENTRY,
    SYSTEMD_BOOT,
    USB,
    EfiMachine,
    file,
    hard_drive,
    on_esp,
    option,
)

TOOLS = (
    *["awk", "cat", "cmp", "cut", "dd", "grep", "head", "mkdir", "mktemp", "od", "printf", "readlink", "rm", "sed"],
    *["sh", "sort", "tail", "tr", "basename"],
)
# The userland that has least; what takes several starts of the script is tried there only.
LEAST = pytest.mark.parametrize("userland", ["busybox"], indirect=True)
DEBIAN = on_esp("debian", "\\EFI\\debian\\shimx64.efi", guid=OLD_GUID)


@pytest.fixture
def efi(userland: Userland, tmp_path: Path) -> EfiMachine:
    """A machine whose disk has a standby and the new system's systemd-boot, which has made its entry."""
    made = EfiMachine(tmp_path, userland)
    made.esp(STANDBY, SYSTEMD_BOOT, REMOVABLE)
    return made


def test_bytes_of_the_standbys_entry(efi: EfiMachine) -> None:
    efi.set(order="0000", _0000=NEW_ENTRY)
    assert efi.keep() == "kept: 0001 starts the standby"
    assert efi.get("Boot0001") == STANDBY_ENTRY
    # The same, written down by hand from the specification.
    assert STANDBY_ENTRY.hex(" ") == (
        "01 00 00 00 66 00 48 00 6f 00 6c 00 64 00 66 00 61 00 73 00 74 00 20 00 73 00 74 00 61 00 6e 00 64 00 62 00"
        " 79 00 00 00 04 01 2a 00 01 00 00 00 00 08 00 00 00 00 00 00 00 a0 0f 00 00 00 00 00 49 bb 9b 5f 6a 2e 31 4a"
        " 9e 29 b5 a7 d6 b1 c0 01 02 02 04 04 38 00 5c 00 45 00 46 00 49 00 5c 00 68 00 6f 00 6c 00 64 00 66 00 61 00"
        " 73 00 74 00 5c 00 73 00 74 00 61 00 6e 00 64 00 62 00 79 00 2e 00 65 00 66 00 69 00 00 00 7f ff 04 00"
    )
    assert (efi.numbers("BootOrder"), efi.numbers("BootNext")) == ("0001 0000", "0001")
    assert efi.writes == ["Boot0001", "BootOrder", "BootNext"]


# What a firmware has when the new system's boot loader is installed: its entries, its order, and the new system's.
FIRMWARES = {
    "ovmf": ({"_0000": SETUP, "_0001": CD, "_0002": NEW_ENTRY}, "0002 0000 0001", "0002"),
    "network first, as on servers": (
        {"_0000": NETWORK, "_0001": NETWORK, "_0003": NVME, "_0005": NEW_ENTRY},
        "0000 0001 0005 0003",
        "0005",
    ),
    "an entry with optional data, in front": (
        {"_0001": option("Windows", hard_drive(OLD_GUID), file("\\x.efi"), data=b"WINDOWS\0" * 16), "_0002": NEW_ENTRY},
        "0001 0002",
        "0002",
    ),
    "gaps, and numbers with letters": (
        {"_0000": USB, "_000A": NVME, "_00FF": NEW_ENTRY, "_2001": BBS, "_FFFE": SETUP},
        "000A 00FF 2001 0000",
        "00FF",
    ),
    "an order that names what is not there": ({"_0007": NEW_ENTRY}, "0009 0007 0003", "0007"),
    "no order": ({"_0000": NEW_ENTRY}, "", "0000"),
    "grub": ({"_0000": DEBIAN, "_0001": on_esp("NixOS-boot", GRUB)}, "0001 0000", "0001"),
    "the old system's entry in front": ({"_0000": DEBIAN, "_0001": NEW_ENTRY}, "0000 0001", "0001"),
    "another system's on the same partition": (
        {"_0000": on_esp("Windows", "\\EFI\\Microsoft\\Boot\\bootmgfw.efi"), "_0001": NEW_ENTRY},
        "0000 0001",
        "0001",
    ),
    "capitals, and slashes": ({"_0000": on_esp("L", "/EFI/SYSTEMD/SYSTEMD-BOOTX64.EFI")}, "0000", "0000"),
    "one in small letters": ({"_000a": NEW_ENTRY}, "000A", "000A"),
    "one that is off before one that is on": (
        {"_0000": option("L", hard_drive(), file(SYSTEMD_BOOT), attributes=0), "_0001": NEW_ENTRY},
        "0000 0001",
        "0001",
    ),
    "the removable path, found by the firmware": (
        {"_0000": on_esp("UEFI OS", REMOVABLE), "_0001": USB},
        "0001 0000",
        "0000",
    ),
    "two of the same": ({"_0003": NEW_ENTRY, "_0001": NEW_ENTRY}, "0003 0001", "0003"),
    "one that is damaged": (
        {"_0000": b"\1\0\0", "_0001": b"\1\0\0\0\xff\xff" + b"x\0" * 9, "_0002": NEW_ENTRY},
        "0002",
        "0002",
    ),
}


# What OVMF (edk2 2025.02) has when it has found two virtio disks and a network card, in hexadecimal.
OVMF = json.loads((Path(__file__).parent / "efi" / "ovmf.json").read_text())
FIRMWARES["ovmf, recorded"] = (
    {f"_{name[4:]}": bytes.fromhex(data) for name, data in OVMF["entries"].items()} | {"_0008": NEW_ENTRY},
    f"0008 {OVMF['order']}",
    "0008",
)


@LEAST
def test_recorded_ovmf(efi: EfiMachine) -> None:
    efi.set(order=OVMF["order"], current=OVMF["current"], **FIRMWARES["ovmf, recorded"][0])
    efi.run("show", efi.new)
    assert [f"{entry.describe()}, {entry.kind}" for entry in efi.facts.entries] == [
        "0000 UiApp, firmware",
        "0001 UEFI Misc Device, other",
        "0002 UEFI Misc Device 2, other",
        "0003 UEFI PXEv4 (MAC:525400123456), network",
        "0004 UEFI PXEv6 (MAC:525400123456), network",
        "0005 UEFI HTTPv4 (MAC:525400123456), network",
        "0006 UEFI HTTPv6 (MAC:525400123456), network",
        "0007 EFI Internal Shell, firmware",
        "0008 Linux Boot Manager, disk",
    ]


@LEAST
@pytest.mark.parametrize("name", FIRMWARES)
def test_standby_is_first_and_the_new_system_comes_once(efi: EfiMachine, name: str) -> None:
    entries, order, new = FIRMWARES[name]
    efi.esp("\\EFI\\SYSTEMD\\SYSTEMD-BOOTX64.EFI", GRUB, "\\EFI\\Microsoft\\Boot\\bootmgfw.efi")
    efi.set(order=order, **entries)
    before = efi.entries
    said = efi.keep("next")
    taken = {number.upper() for number in before}
    mine = next(f"{at:04X}" for at in range(999) if f"{at:04X}" not in taken)
    assert said == f"kept: {new} starts the new system once, then {mine} the standby"
    assert efi.numbers("BootNext") == new
    assert efi.numbers("BootOrder") == f"{mine} {order}".strip()
    assert efi.entries == before | {mine: STANDBY_ENTRY}
    assert efi.facts.in_order[0].is_standby
    written = len(efi.writes)
    assert efi.keep("next") == said
    assert len(efi.writes) == written

    (efi.variables / "BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c").unlink()  # the firmware, when it starts it
    efi.set(current=new)
    assert efi.settle("booted") == f"settled: {new} starts the new system"
    rest = [number for number in order.split() if number != new]
    assert efi.numbers("BootOrder") == " ".join([new, *rest])
    assert (efi.entries, efi.numbers("BootNext")) == (before, "")
    written = len(efi.writes)
    assert efi.settle("booted") == "settled: the firmware has no entry of the standby"
    assert len(efi.writes) == written


@LEAST
def test_many_entries(efi: EfiMachine) -> None:
    entries = {f"_{at:04X}": NETWORK for at in range(70)}
    efi.set(order=" ".join(name[1:] for name in entries), **entries, _0046=NEW_ENTRY)
    assert efi.keep("next") == "kept: 0046 starts the new system once, then 0047 the standby"
    assert len(efi.numbers("BootOrder").split()) == 71


@LEAST
def test_standby_of_an_earlier_install_is_replaced(efi: EfiMachine) -> None:
    old = on_esp("Holdfast standby", STANDBY, guid=OLD_GUID)
    efi.set(order="0000 0001 0002", _0000=old, _0001=NEW_ENTRY, _0002=NETWORK)
    assert efi.keep("next") == "kept: 0001 starts the new system once, then 0000 the standby"
    assert (efi.get("Boot0000"), efi.numbers("BootOrder")) == (STANDBY_ENTRY, "0000 0001 0002")


def test_boot_loader_without_an_entry_gets_one(efi: EfiMachine) -> None:
    (efi.new / "boot/EFI/systemd/systemd-bootx64.efi").unlink()
    efi.set(order="0000", _0000=NETWORK)
    assert efi.keep("next") == "kept: 0002 starts the new system once, then 0001 the standby"
    assert efi.get("Boot0002") == on_esp("NixOS", REMOVABLE)
    assert efi.numbers("BootOrder") == "0001 0002 0000"
    efi.set(current="0002")
    assert efi.settle("booted") == "settled: 0002 starts the new system"
    assert (efi.numbers("BootOrder"), sorted(efi.entries)) == ("0002 0000", ["0000", "0002"])


@LEAST
@pytest.mark.parametrize(("machine", "name"), [("aarch64", "BOOTAA64.EFI"), ("riscv64", "BOOTRISCV64.EFI")])
def test_removable_path_of_other_machines(efi: EfiMachine, machine: str, name: str) -> None:
    (efi.new / "boot/EFI/systemd/systemd-bootx64.efi").unlink()
    efi.esp(f"\\EFI\\BOOT\\{name}")
    efi.keep("next", MACHINE=machine)
    assert efi.get("Boot0001") == on_esp("NixOS", f"\\EFI\\BOOT\\{name}")


@LEAST
def test_removable_path_that_starts_the_standby_is_not_the_new_system(efi: EfiMachine) -> None:
    (efi.new / "boot/EFI/systemd/systemd-bootx64.efi").unlink()
    (efi.new / "boot/EFI/BOOT/BOOTX64.EFI").write_text(STANDBY)
    efi.set(order="0000", _0000=NETWORK, _0001=on_esp("UEFI OS", REMOVABLE))
    assert efi.keep("next") == f"none: no boot loader of the new system is at {efi.new}/boot"
    assert (efi.numbers("BootOrder"), sorted(efi.entries)) == ("0000", ["0000", "0001"])


@LEAST
def test_boot_loader_of_the_standby_may_be_the_new_systems_very_file(efi: EfiMachine) -> None:
    boot = efi.new / "boot"
    efi.esp("\\holdfast\\loader.efi", "\\loader\\loader.conf")
    for name in ("holdfast/loader.efi", "EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"):
        (boot / name).write_text("systemd-boot 257")
    efi.set(order="0000", _0000=NEW_ENTRY)
    (boot / "loader/loader.conf").write_text("# Holdfast standby: boots the installer\ntimeout 0\n")
    assert efi.keep("next") == f"none: no boot loader of the new system is at {boot}"
    (boot / "loader/loader.conf").write_text("timeout 5\n")
    assert efi.keep("next").startswith("kept: 0000 starts the new system")


@LEAST
def test_entry_whose_file_is_not_there_is_not_the_new_system(efi: EfiMachine) -> None:
    efi.set(order="0000 0001", _0000=on_esp("NixOS-boot", GRUB), _0001=NEW_ENTRY)
    assert efi.keep("next").startswith("kept: 0001 starts the new system")


@LEAST
@pytest.mark.parametrize("place", ["boot/efi", "efi"])
def test_other_mount_points(efi: EfiMachine, place: str) -> None:
    efi.esp(STANDBY, SYSTEMD_BOOT, place=place)
    lines = [
        f"{at} 1 254:{at} / {efi.new}/{where} rw - {kind} /dev/x rw"
        for at, where, kind in ((1, place, "vfat"), (9, "boot", "ext4"))
    ]
    efi.mounts(*lines, f"30 1 0:50 / {efi.new}/elsewhere rw - autofs systemd-1 rw")
    efi.set(order="0000", _0000=NEW_ENTRY)
    assert efi.keep("next").startswith("kept: 0000 starts")


@LEAST
def test_automount_is_seen_through(efi: EfiMachine) -> None:
    where = f"{efi.new}/boot"
    efi.mounts(f"30 1 0:50 / {where} rw - autofs systemd-1 rw", f"31 30 254:1 / {where} rw - vfat /dev/vda1 rw")
    assert efi.keep() == "kept: 0000 starts the standby"


@LEAST
def test_disk_with_large_sectors(efi: EfiMachine) -> None:
    efi.disk(sector=4096, start=256)
    efi.keep()
    assert efi.get("Boot0000") == on_esp("Holdfast standby", STANDBY, start=256)


def test_msdos_table(efi: EfiMachine) -> None:
    efi.disk(mbr=True, guid="78563412")
    drive = {"guid": "78563412", "mbr": True}
    efi.set(order="0000", _0000=on_esp("Linux Boot Manager", SYSTEMD_BOOT, **drive))
    assert efi.keep("next") == "kept: 0000 starts the new system once, then 0001 the standby"
    assert efi.get("Boot0001") == on_esp("Holdfast standby", STANDBY, **drive)
    assert [entry.partition for entry in efi.facts.entries] == ["12345678-01"] * 2


@LEAST
def test_mirrored_partition(efi: EfiMachine) -> None:
    members = efi.live / "sys/devices/virtual/block/md127/slaves"
    members.mkdir(parents=True)
    (members / "vda1").symlink_to(efi.live / "sys/devices/pci/block/vda/vda1")
    (efi.live / "sys/dev/block/9:127").symlink_to(members.parent)
    efi.mounts(f"29 1 9:127 / {efi.new}/boot rw - vfat /dev/md127 rw")
    efi.keep()
    assert efi.get("Boot0000") == STANDBY_ENTRY


@LEAST
def test_kernel_and_disk_must_agree(efi: EfiMachine) -> None:
    (efi.live / "sys/devices/pci/block/vda/vda1/start").write_text("4096\n")
    assert efi.keep() == f"none: no EFI system partition is mounted below {efi.new}"


REFUSED = {
    "full": ("Boot0001", "No space left on device", "Boot0001"),
    "full for the order": ("BootOrder", "No space left on device", "BootOrder"),
    "broken": ("BootNext", "Input/output error", "BootNext"),
    "locked": ("Boot", "Operation not permitted", "Boot0001"),
    "no such service after kexec": ("Boot", "Invalid argument", "Boot0001"),
}


@LEAST
@pytest.mark.parametrize("name", REFUSED)
def test_firmware_that_refuses(efi: EfiMachine, name: str) -> None:
    rule, why, variable = REFUSED[name]
    efi.set(order="0000", _0000=NEW_ENTRY)
    efi.fails(rule, why)
    assert efi.keep("next") == f"none: the firmware does not take {variable} ({why})"
    assert efi.entries == {"0000": NEW_ENTRY}
    assert (efi.numbers("BootOrder"), efi.numbers("BootNext")) == ("0000", "")


@LEAST
def test_firmware_that_forgets(efi: EfiMachine) -> None:
    efi.set(order="0000", _0000=NEW_ENTRY)
    (efi.folder / "forgets").touch()
    assert efi.keep("next") == "none: the firmware took Boot0001 and does not have it now"
    assert efi.entries == {"0000": NEW_ENTRY}


@LEAST
def test_firmware_that_has_forgotten_the_standby(efi: EfiMachine) -> None:
    efi.set(order="0000", _0000=NEW_ENTRY)
    assert efi.run("show", efi.new) == "none: the standby is not the first that the firmware starts"
    assert efi.settle("booted") == "settled: the firmware has no entry of the standby"
    assert efi.writes == []


@LEAST
def test_firmware_that_sorts_anew_is_put_right(efi: EfiMachine) -> None:
    efi.set(order="0000 0001", _0000=NEW_ENTRY, _0001=STANDBY_ENTRY)
    assert efi.run("show", efi.new) == "none: the standby is not the first that the firmware starts"
    assert efi.keep() == "kept: 0001 starts the standby"
    assert efi.run("show", efi.new) == "kept: 0001 starts the standby"


@LEAST
def test_variables_are_mounted_if_they_are_not(efi: EfiMachine) -> None:
    efi.mounts(f"29 1 254:1 / {efi.new}/boot rw - vfat /dev/vda1 rw", efivars=False)
    assert efi.keep() == "none: the firmware's variables cannot be mounted (denied.)"
    efi.tool("mount", f'echo "mount $*" >>{efi.log}')
    assert efi.keep() == "kept: 0000 starts the standby"
    assert f"mount -t efivarfs efivarfs {efi.variables}" in efi.log.read_text()


def test_variables_that_are_read_only(efi: EfiMachine) -> None:
    efi.efivars = efi.efivars.replace("rw,nosuid", "ro,nosuid")
    efi.mounts(f"29 1 254:1 / {efi.new}/boot rw - vfat /dev/vda1 rw")
    assert efi.keep() == "none: the firmware's variables are read-only (denied.)"
    assert efi.run("show", efi.new).startswith("none: the standby is not the first")
    efi.tool("mount", f'echo "mount $*" >>{efi.log}')
    assert efi.keep() == "kept: 0000 starts the standby"
    assert f"mount -o remount,rw {efi.variables}" in efi.log.read_text()


@LEAST
def test_machines_that_cannot(efi: EfiMachine) -> None:
    (efi.live / "sys/firmware/efi/fw_platform_size").write_text("32\n")
    assert efi.keep() == "none: the firmware is a 32-bit one, and starts no standby of 64 bit"
    assert efi.keep(MACHINE="i686").startswith("kept: ")
    (efi.new / "boot/EFI/holdfast/standby.efi").unlink()
    assert efi.keep(MACHINE="i686") == f"none: there is no standby below {efi.new}"
    assert (efi.entries, efi.numbers("BootOrder")) == ({}, "")
    for path in sorted((efi.live / "sys/firmware").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert efi.keep() == "none: this system was not started by UEFI"
    assert efi.settle() == "none: this system was not started by UEFI"


@LEAST
def test_entry_that_cannot_be_removed_is_said(efi: EfiMachine) -> None:
    efi.set(order="0001 0000", current="0000", _0000=NEW_ENTRY, _0001=STANDBY_ENTRY)
    efi.tool("rm", f'case $* in *Boot0001*) exit 1 ;; esac; exec {efi._real("rm")} "$@"')
    assert efi.settle("booted") == "none: the firmware does not remove Boot0001"
    assert efi.numbers("BootOrder") == "0000"
    (efi.bin / "rm").unlink()
    assert efi.settle("booted") == "settled: 0000 starts the new system"
    assert efi.entries == {"0000": NEW_ENTRY}


@LEAST
@pytest.mark.parametrize(
    ("order", "entries", "after"),
    [
        ("0001", {"_0001": STANDBY_ENTRY}, ""),
        ("0002 0001", {"_0001": STANDBY_ENTRY, "_0002": NETWORK}, "0002"),
        ("0001 0002 0003", {"_0001": STANDBY_ENTRY, "_0003": STANDBY_ENTRY, "_0002": NETWORK}, "0002"),
    ],
)
def test_standby_goes_also_without_a_new_system(
    efi: EfiMachine, order: str, entries: dict[str, bytes], after: str
) -> None:
    efi.mounts()  # no EFI system partition any more
    efi.set(order=order, **entries)
    assert efi.settle().startswith("settled: the firmware has no entry of the new system")
    assert efi.numbers("BootOrder") == after
    assert STANDBY_ENTRY not in efi.entries.values()


@LEAST
def test_entry_that_booted_is_first(efi: EfiMachine) -> None:
    efi.esp("\\EFI\\other\\x.efi")
    efi.set(
        order="0001 0000 0002",
        current="0002",
        _0000=NEW_ENTRY,
        _0001=STANDBY_ENTRY,
        _0002=on_esp("x", "\\EFI\\other\\x.efi"),
    )
    assert efi.settle("booted") == "settled: 0002 starts the new system"
    assert efi.numbers("BootOrder") == "0002 0000"


@LEAST
def test_what_started_the_installer_counts_for_nothing(efi: EfiMachine) -> None:
    efi.esp("\\EFI\\debian\\x.efi")
    efi.set(
        order="0001 0002 0000",
        current="0002",
        _0000=NEW_ENTRY,
        _0001=STANDBY_ENTRY,
        _0002=on_esp("debian", "\\EFI\\debian\\x.efi"),
    )
    assert efi.settle() == "settled: 0000 starts the new system"
    assert efi.numbers("BootOrder") == "0000 0002"


def test_what_is_shown(efi: EfiMachine) -> None:
    efi.set(
        order="0002 0009 0000",
        current="0000",
        following="0003",
        _0000=NEW_ENTRY,
        _0002=NETWORK,
        _0003=USB,
        _0004=CD,
        _0005=SETUP,
        _0006=BBS,
        _0007=NVME,
    )
    efi.run("show", efi.new)
    assert (efi.facts.current, efi.facts.next, efi.facts.order) == ("0000", "0003", ("0002", "0009", "0000"))
    kinds = {entry.number: entry.kind for entry in efi.facts.entries}
    assert kinds == {
        "0000": "disk",
        "0002": "network",
        "0003": "usb",
        "0004": "cd",
        "0005": "firmware",
        "0006": "disk",
        "0007": "disk",
    }
    assert efi.facts.entries[0] == EfiEntry(
        number="0000", name="Linux Boot Manager", kind="disk", partition=ESP_GUID, path=SYSTEMD_BOOT
    )
    assert [entry.describe() for entry in efi.facts.in_order] == [
        "0002 UEFI PXEv4 (MAC:525400123456)",
        "0000 Linux Boot Manager",
    ]


def test_names_are_untrusted(efi: EfiMachine) -> None:
    name = "x\n0001\ton\tdisk\t-\t\\y\tz\x1b[31m\u202eé\ud83d"
    data = option("", hard_drive(), file(SYSTEMD_BOOT))
    data = data[:6] + name.encode("utf-16-le", "surrogatepass") + data[6:]
    efi.set(order="0000", _0000=data)
    assert efi.keep("next").startswith("kept: 0000 starts")
    assert [(entry.number, entry.name) for entry in efi.facts.entries] == [
        ("0000", "x?0001?on?disk?-?\\y?z?[31m???"),
        ("0001", "Holdfast standby"),
    ]
