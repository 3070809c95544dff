"""The starter of the lab's image, on machines of its own: it starts what lies on another file system, or nothing."""

import hashlib
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from holdfast.target.one_program import one_program
from lab import toolchain
from lab.image import KERNEL_PARAMS, image_folder
from lab.qemu import UEFI, Disk, Hardware, Kernel, VirtualMachine, make_variables

pytestmark = pytest.mark.lab

BOOT_S = 600
STORE = ".holdfast-standby"
# The kernel of a slow machine without KVM may find that its timer does not work; no_timer_check lets it go on.
LINE = f"init=/init {KERNEL_PARAMS} no_timer_check"
UUID = "11111111-2222-3333-4444-555555555555"
FAT_ID = "1111-2222"
# A system that only says what it was started with.
INSTALLER = """#!/bin/sh
mkdir -p /proc
mount -t proc proc /proc
echo "INSTALLER: $(cat /handed-over) with $(cat /proc/cmdline)"
poweroff -f
"""
STARTED = f"INSTALLER: the hand-over with {LINE}"
# Makes a RAID array with a volume and an ext2 on it, and puts there what the third disk holds as a tar.
MAKE = """#!/bin/sh
mkdir -p /proc /sys /dev /run /mnt
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
modprobe -a virtio_blk md_mod raid1 dm_mod ext4
until [ -e /dev/vdc ]; do sleep 1; done
export MDADM_NO_UDEV=1
mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean /dev/vda /dev/vdb
plain='activation{udev_sync=0 udev_rules=0} devices{use_devicesfile=0 obtain_device_list_from_udev=0}'
lvm pvcreate --config "$plain" /dev/md0
lvm vgcreate --config "$plain" pool /dev/md0
lvm lvcreate --config "$plain" -W n -Z n -n root -L 80M pool
mke2fs /dev/dm-0
mount -t ext4 /dev/dm-0 /mnt
tar -xf /dev/vdc -C /mnt
umount /mnt
echo "MADE $(blkid -p -s UUID -o value /dev/dm-0)"
sync
poweroff -f
"""


def cpio(into: Path, files: dict[str, str]) -> Path:
    """Pack executable files, with the folders that they are in."""
    tree = into.with_suffix(".tree")
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
        (tree / name).chmod(0o755)
    pack = "find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet"
    with into.open("wb") as out:
        subprocess.run(["sh", "-c", pack], cwd=tree, stdout=out, check=True)
    return into


def joined(into: Path, *parts: Path) -> Path:
    """Put archives one after another, each padded, as a boot loader loads them."""
    data = b""
    for part in parts:
        data += part.read_bytes()
        data += bytes(-len(data) % 4)
    into.write_bytes(data)
    return into


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Standby:
    """What standby.sh would have put on a disk, in a folder, and a machine to start it on."""

    folder: Path
    image: Path = field(default_factory=lambda: image_folder() / "kexec")

    def __post_init__(self) -> None:
        self.fs = self.folder / "fs"
        store = self.fs / STORE
        store.mkdir(parents=True)
        shutil.copy(self.image / "bzImage", store / "kernel")
        init = cpio(self.folder / "init.cpio", {"init": INSTALLER})
        joined(store / "initrd", self.image / "starter", init)  # busybox is in it
        handover = cpio(self.folder / "handover.cpio", {"handed-over": "the hand-over\n"})
        shutil.copy(handover, store / f"handover.{sha256(handover)[:12]}")
        self.digests = {"kernel": sha256(store / "kernel"), "initrd": sha256(store / "initrd")}
        self.digests["handover"] = sha256(handover)

    def told(self, uuid: str, kind: str = "ext4", **more: str) -> str:
        """Return what the starter has to know: of a dataset of ZFS more than of another file system."""
        words = {"type": kind, **more, "id": uuid, "folder": f"/{STORE}", **self.digests, "line": LINE}
        return "".join(f"{word} {value}\n" for word, value in words.items())

    def plain_disk(self) -> Disk:
        """Return a disk that is one file system."""
        disk = self.folder / "disk.raw"
        with disk.open("wb") as file:
            file.truncate(96 << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-U", UUID, "-d", str(self.fs), str(disk)], check=True)
        return Disk(disk, "ROOT", "raw")

    def fat_disk(self) -> Disk:
        """Return a disk that is one FAT, as a boot partition is."""
        disk = self.folder / "fat.raw"
        with disk.open("wb") as file:
            file.truncate(96 << 20)
        subprocess.run(["mkfs.vfat", "-F", "32", "-i", FAT_ID.replace("-", ""), str(disk)], check=True)
        subprocess.run(["mcopy", "-s", "-i", str(disk), str(self.fs / STORE), "::/"], check=True)
        return Disk(disk, "BOOT", "raw")

    def started_by_bios(self, uuid: str, kind: str = "ext4", **more: str) -> Kernel:
        known = cpio(self.folder / "known.cpio", {".extra/credentials/standby.cred": self.told(uuid, kind, **more)})
        return Kernel(self.image / "bzImage", joined(self.folder / "both", self.image / "starter", known), LINE)

    def esp(self, uuid: str) -> Disk:
        """Return a disk with an EFI system partition that starts the standby."""
        esp = self.folder / "esp"
        extra = esp / "EFI/holdfast/standby.efi.extra.d"
        for path in (extra, esp / "EFI/BOOT", esp / "loader/entries"):
            path.mkdir(parents=True)
        kernel, starter, stub = ((self.image / name).read_bytes() for name in ("bzImage", "starter", "stub.efi"))
        program = one_program(stub, command_line=LINE, initrd=starter, kernel=kernel)
        (esp / "EFI/holdfast/standby.efi").write_bytes(program)
        (extra / "standby.cred").write_text(self.told(uuid))
        shutil.copy(toolchain.qemu() / "usr/lib/systemd/boot/efi/systemd-bootx64.efi", esp / "EFI/BOOT/BOOTX64.EFI")
        (esp / "loader/loader.conf").write_text("default holdfast-standby.conf\ntimeout 0\n")
        (esp / "loader/entries/holdfast-standby.conf").write_text("title x\nefi /EFI/holdfast/standby.efi\n")
        return Disk(Path(f"fat:rw:{esp}"), "ESP", "raw")

    def boot(self, *disks: Disk, until: str, kernel: Kernel | None = None, uefi: bool = False) -> str:
        """Start a machine, and return what it has printed once that has `until`, or after BOOT_S."""
        serial = self.folder / "serial.log"
        serial.unlink(missing_ok=True)
        variables = self.folder / "variables.qcow2"
        if uefi:
            make_variables(variables)
        machine = VirtualMachine(
            disks,
            serial,
            self.folder / "qmp",
            0,
            512,
            1,
            kernel,
            UEFI if uefi else Hardware(),
            variables if uefi else None,
        )
        running = subprocess.Popen([*machine.command(), "-no-reboot"])
        try:
            ends = time.monotonic() + BOOT_S
            while time.monotonic() < ends:
                said = serial.read_text(errors="replace") if serial.exists() else ""
                if until in said or running.poll() is not None:
                    break
                time.sleep(0.5)
            running.poll()
            return serial.read_text(errors="replace").replace("\r", "")
        finally:
            running.kill()
            running.wait()


@pytest.fixture
def standby(tmp_path: Path) -> Standby:
    return Standby(tmp_path)


@pytest.mark.parametrize("uefi", [False, True], ids=["bios", "uefi"])
def test_starts_what_lies_on_the_root(standby: Standby, uefi: bool) -> None:
    disk = standby.plain_disk()
    if uefi:
        said = standby.boot(standby.esp(UUID), disk, until=STARTED, uefi=True)
    else:
        said = standby.boot(disk, until=STARTED, kernel=standby.started_by_bios(UUID))
    assert STARTED in said, said[-2000:]


def test_starts_what_lies_on_a_fat_boot_partition(standby: Standby) -> None:
    disk = standby.fat_disk()
    said = standby.boot(disk, until=STARTED, kernel=standby.started_by_bios(FAT_ID, "vfat"))
    assert STARTED in said, said[-2000:]


def test_what_has_changed_is_not_started(standby: Standby) -> None:
    with (standby.fs / STORE / "initrd").open("ab") as initrd:
        initrd.write(b"more")
    said = standby.boot(standby.plain_disk(), until="changed", kernel=standby.started_by_bios(UUID))
    assert "initrd on /dev/vda has changed" in said, said[-2000:]
    assert "INSTALLER" not in said


def test_machine_reboots_if_nothing_can_be_started(standby: Standby) -> None:
    alone = Kernel(standby.image / "bzImage", standby.image / "starter", "console=ttyS0 panic=1 quiet no_timer_check")
    said = standby.boot(standby.plain_disk(), until="Rebooting in", kernel=alone)
    assert "nothing tells what to start: the machine reboots" in said, said[-2000:]
    assert "Rebooting in 1 seconds" in said


def test_volume_on_an_array_that_may_lack_a_member(standby: Standby) -> None:
    disks = []
    for name in ("a", "b"):
        with (standby.folder / name).open("wb") as file:
            file.truncate(128 << 20)
        disks.append(Disk(standby.folder / name, name, "raw"))
    tar = standby.folder / "fs.tar"
    subprocess.run(["tar", "-C", str(standby.fs), "-cf", str(tar), STORE], check=True)
    maker = joined(
        standby.folder / "maker", standby.image / "starter", cpio(standby.folder / "make.cpio", {"init": MAKE})
    )
    made = Kernel(standby.image / "bzImage", maker, "console=ttyS0 panic=5 quiet no_timer_check")
    said = standby.boot(*disks, Disk(tar, "tar", "raw"), until="Power down", kernel=made)
    (uuid,) = [line.split()[1] for line in said.splitlines() if line.startswith("MADE ")]
    told = standby.started_by_bios(uuid)
    for there in (disks, disks[1:]):
        said = standby.boot(*there, until=STARTED, kernel=told)
        assert STARTED in said, said[-2000:]
