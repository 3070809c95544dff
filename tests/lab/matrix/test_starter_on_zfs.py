"""The starter on ZFS, and what ZFS says of a pool that another system has used: release-pools.sh goes by that."""

import subprocess
from pathlib import Path

import pytest

from lab.image import image_folder
from lab.qemu import Disk, Kernel
from tests.lab.test_starter import STARTED, STORE, Standby, cpio, joined

pytestmark = [pytest.mark.lab, pytest.mark.matrix]

# Begins a system that has the programs of the starter, under a host id of its own.
BEGIN = """#!/bin/sh
mkdir -p /proc /sys /dev /run /mnt
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
modprobe -a virtio_blk zfs
until [ -e /dev/vda1 ] && [ -e /dev/zfs ]; do sleep 1; done
"""
# Makes a pool, puts there what the second disk holds as a tar, and ends without an export.
MAKE = """echo 0xc0ffee00 >/sys/module/spl/parameters/spl_hostid
zpool create -f -o cachefile=none -o ashift=12 -O mountpoint=none tank /dev/vda1
zfs create -o mountpoint=legacy tank/root
mount -t zfs tank/root /mnt
tar -xf /dev/vdb -C /mnt
zpool sync tank
echo "MADE $(zpool get -H -o value guid tank)"
poweroff -f
"""
LOOK = """echo 0x8425e349 >/sys/module/spl/parameters/spl_hostid
echo "PLAIN $(zpool import -N -o cachefile=none tank 2>&1)"
zpool import -N -o cachefile=none -f tank && zpool export tank && echo RELEASED
zpool import -N -o cachefile=none tank && echo IMPORTED
poweroff -f
"""


class OnZfs(Standby):
    """A standby in a dataset of a pool; its id is the pool's."""

    def run(self, script: str, *disks: Disk) -> str:
        """Run a script on a machine, with the programs of the starter; return what the machine has printed."""
        init = cpio(self.folder / f"{len(script)}.cpio", {"init": BEGIN + script})
        system = joined(self.folder / "system", self.image / "starter", init)
        kernel = Kernel(self.image / "bzImage", system, "console=ttyS0 panic=5 quiet no_timer_check")
        return self.boot(*disks, until="Power down", kernel=kernel)


def test_pool_that_was_not_exported(tmp_path: Path) -> None:
    standby = OnZfs(tmp_path, image_folder(with_zfs=True) / "kexec")
    tar, image = tmp_path / "fs.tar", tmp_path / "pool"
    subprocess.run(["tar", "-C", str(standby.fs), "-cf", str(tar), STORE], check=True)
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["sfdisk", "--quiet", str(image)], input="type=83\n", text=True, check=True)
    pool = Disk(image, "POOL", "raw")

    said = standby.run(MAKE, pool, Disk(tar, "tar", "raw"))
    made = [line.split()[1] for line in said.splitlines() if line.startswith("MADE ")]
    assert len(made) == 1, said[-2000:]
    said = standby.boot(pool, until=STARTED, kernel=standby.started_by_bios(made[0], "zfs", dataset="tank/root"))
    assert STARTED in said, said[-2000:]

    # The starter has changed nothing: the pool is as its last system left it.
    said = standby.run(LOOK, pool)
    assert "PLAIN cannot import 'tank': pool was previously in use from another system.\n" in said, said[-2000:]
    assert "RELEASED\nIMPORTED\n" in said, said[-2000:]
