"""Storage on several disks for the lab's origin: the tools that make it, and disks to make it on.

The origin's image has none of these tools, so that it stays small and boots fast. They are unpacked into a running
origin, whose kernel has the modules. The disks are SCSI disks on one controller; two of them lead to the same image, as
two paths of a storage network do.
"""

import subprocess
import tarfile
from pathlib import Path

from lab import qemu
from lab.cache import Part
from lab.debian import make_tree
from lab.lists import entries
from lab.origin import SUITE, debian_tree
from lab.runtime import Lab
from lab.toolchain import built

PACKAGES = entries(Path(__file__).with_name("storage-packages.txt"))
NOT_NEEDED = ("usr/share/", "usr/lib/x86_64-linux-gnu/gconv/", "var/")
DISK_BYTES = 256 << 20
LUKS = "LUKS0001"
SERIALS = ("LVM0001", "LVM0002", "RAID001", "RAID002", "BTRFS01", "BTRFS02")
PATHS = "PATHS01"
"""The serial number of the disk that two paths lead to."""
ROOT_SERIALS = ("ROOT001", "ROOT002")
"""The serial numbers of the disks that the origin's own root is copied to."""
ROOT_BYTES = 2 << 30
MIRROR_S = 900
WWN = 0x5000C50015EA71AC
"""The world-wide name of the disk with two paths, by which multipath knows that the paths lead to one disk."""


def tools() -> Path:
    """Return a tar with the files of the tools, and of the libraries that the origin lacks."""
    parts: list[Part] = [SUITE, PACKAGES, debian_tree().parent.name, Path(__file__)]
    return built("storage-tools", parts, _pack_tools, about="20 s") / "tools.tar.gz"


def _pack_tools(into: Path) -> None:
    tree, there = into / "tree", debian_tree()
    make_tree(SUITE, PACKAGES, tree, variant="extract")
    with tarfile.open(into / "tools.tar.gz", "w:gz") as packed:
        for path in sorted(tree.rglob("*")):
            name = path.relative_to(tree).as_posix()
            if (
                (path.is_symlink() or path.is_file())
                and not (there / name).exists()
                and not name.startswith(NOT_NEEDED)
            ):
                packed.add(path, name)


def make(lab: Lab) -> None:
    """Plug the disks into the lab's running machine, and make the storage on them, as storage.sh says."""
    _plug_in(lab)
    unpack_tools(lab)
    said = lab.ssh_local(["sh", "-s", "--", f"{WWN:x}"], Path(__file__).with_name("storage.sh").read_text())
    (lab.run_dir / "storage.log").write_text(said)


def encrypt(lab: Lab, passphrase: str, place: str) -> None:
    """Encrypt a disk of the lab's running machine, and mount it: from now on each boot asks for its passphrase.

    Args:
        lab: the lab.
        passphrase: opens the disk.
        place: where it is mounted, also at each boot.

    """
    lab.plug_in_disk(LUKS)
    unpack_tools(lab)
    script = Path(__file__).with_name("luks.sh").read_text()
    lab.ssh_local(["sh", "-c", script, "luks.sh", f"/dev/disk/by-id/virtio-{LUKS}", place], passphrase)


def unpack_tools(lab: Lab) -> None:
    """Unpack the tools into the lab's running machine."""
    unpack = lab.world.ssh_command(
        lab.key, lab.run_dir / "known_hosts", "tar", "-xzf", "-", "-C", "/", "--keep-directory-symlink"
    )
    with tools().open("rb") as packed:
        subprocess.run(unpack, check=True, stdin=packed, timeout=120)


def mirror_root(lab: Lab) -> None:
    """Put the origin's root on a RAID 1, as mirror.sh says, and start it from that; `make` has brought the tools.

    The disks stay until the machine's power is cut; its first disk starts nothing else from now on.
    """
    for number, serial in enumerate(ROOT_SERIALS):
        path = lab.run_dir / f"{serial}.qcow2"
        path.unlink(missing_ok=True)
        qemu.make_disk(path, ROOT_BYTES)
        qemu.plug_in(lab.world.qmp, qemu.Disk(path, serial), slot=qemu.DISK_SLOT - 2 - number)
    known_hosts = lab.run_dir / "known_hosts"
    script = lab.world.ssh_command(lab.key, known_hosts, "sh", "-s", "--", *ROOT_SERIALS)
    with Path(__file__).with_name("mirror.sh").open() as text, (lab.run_dir / "mirror.log").open("w") as log:
        subprocess.run(script, check=True, stdin=text, stdout=log, stderr=log, timeout=MIRROR_S)
    lab.power_cycle()
    lab.wait_for_ssh()


def _plug_in(lab: Lab) -> None:
    """Give the machine a SCSI controller with all disks. They are there until the machine's power is cut."""
    qmp = lab.world.qmp
    qemu.ask(qmp, "device_add", driver="virtio-scsi-pci", id="scsi", addr=f"{qemu.DISK_SLOT - 1:#x}")
    for number, serial in enumerate((*SERIALS, PATHS)):
        path = lab.run_dir / f"{serial}.qcow2"
        path.unlink(missing_ok=True)
        qemu.make_disk(path, DISK_BYTES)
        file = {"driver": "file", "filename": str(path)}
        qemu.ask(qmp, "blockdev-add", 30, driver="qcow2", file=file, **{"node-name": serial})
        for lun in range(2 if serial == PATHS else 1):
            more = {"share-rw": True, "wwn": WWN} if serial == PATHS else {}
            place = {"bus": "scsi.0", "scsi-id": number, "lun": lun}
            qemu.ask(qmp, "device_add", 30, driver="scsi-hd", drive=serial, serial=serial, **place, **more)
