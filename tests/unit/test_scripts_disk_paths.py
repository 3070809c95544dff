"""The scripts that say where paths lead and what disks hold, on a folder that stands for the machine's root."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.conftest import Userland

SCRIPTS = Path(__file__).parents[2] / "nix/scripts/installer"
TOOLS = ("grep", "head", "readlink", "sed", "sort", "tr")
LABELS = "/dev/disk/by-partlabel"


@dataclass
class Target:
    root: Path
    userland: Userland

    def disk(self, name: str, *parts: str, size: int = 4096) -> None:
        folder = self.root / "sys/block" / name
        for number, part in enumerate(parts, 1):
            self.write(folder / part, partition=str(number), size="1024", start=str(number * 2048))
        self.write(folder, size=str(size))
        for node in (name, *parts):
            file = self.root / "dev" / node.replace("!", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    def above(self, name: str, *slaves: str) -> None:
        """Make a device-mapper or RAID device on top of others."""
        self.disk(name)
        folder = self.root / "sys/block" / name / "slaves"
        folder.mkdir()
        for slave in slaves:
            (folder / slave).mkdir()

    def link(self, path: str, name: str, *, number: str = "") -> None:
        """Make a link in /dev; with a device number, udev's database has it too."""
        link = self.root / path.removeprefix("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(self.root / "dev" / name)
        if number:
            self.claim(path, name, number)

    def claim(self, path: str, name: str, number: str) -> None:
        data = self.root / "run/udev/data"
        data.mkdir(parents=True, exist_ok=True)
        with (data / f"b{number}").open("a") as file:
            file.write(f"S:{path.removeprefix('/dev/')}\nE:ID_FS_TYPE=ext4\n")
        devices = self.root / "sys/dev/block"
        devices.mkdir(parents=True, exist_ok=True)
        if not (devices / number).is_symlink():
            (devices / number).symlink_to(f"../../devices/virtual/block/{name}")

    def write(self, folder: Path, **files: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")

    def ask(self, script: str, *args: str, path: str = "") -> list[str]:
        env = {"PATH": path + self.userland.path, "HOLDFAST_ROOT": str(self.root)}
        with (SCRIPTS / script).open("rb") as file:
            done = subprocess.run(
                [*self.userland.shell, "-s", "--", *args],
                stdin=file,
                capture_output=True,
                env=env,
                check=True,
                timeout=60,
            )
        assert done.stderr == b""
        return [line.rstrip() for line in done.stdout.decode().splitlines()]


@pytest.fixture
def target(userland: Userland, tmp_path: Path) -> Target:
    made = Target(tmp_path / "root", userland)
    made.disk("vda", "vda1", "vda2")
    made.disk("vdb", "vdb1")
    made.disk("nvme0n1", "nvme0n1p1")
    made.disk("cciss!c0d0", "cciss!c0d0p1")
    (made.root / "dev/null").touch()
    return made


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("/dev/vda", ["1 vda vda"]),
        ("/dev/vda2", ["1 vda2 vda"]),
        ("/dev/nvme0n1p1", ["1 nvme0n1p1 nvme0n1"]),
        ("/dev/cciss/c0d0p1", ["1 cciss!c0d0p1 cciss!c0d0"]),
        ("/dev/null", []),
        ("/dev/vdz", []),
        ("/dev/disk/by-partlabel", []),
        ("/dev/..", []),
        ("/dev/vda*", ["1 vda vda", "1 vda1 vda", "1 vda2 vda"]),
        ("/dev/vdz*", []),
        ("/dev/$(touch evil)", []),
    ],
)
def test_where_a_path_leads(target: Target, path: str, lines: list[str]) -> None:
    assert target.ask("disk-paths.sh", path) == lines
    assert not list(target.root.parent.rglob("evil"))


def test_hidden_paths_of_an_nvme_disk_are_that_disk(target: Target) -> None:
    """Facts name the head alone: with another name here, the install would stop as if a kept disk were opened."""
    target.above("nvme1n1", "nvme1c0n1", "nvme1c1n1")
    target.disk("nvme1n1", "nvme1n1p1")
    for path in ("nvme1c0n1", "nvme1c1n1"):
        target.write(target.root / "sys/block" / path, hidden="1", size="4096")
    target.above("dm-3", "nvme1n1p1", "vdb1")
    asked = ("/dev/nvme1n1", "/dev/nvme1n1p1", "/dev/dm-3")
    assert target.ask("disk-paths.sh", *asked) == ["1 nvme1n1 nvme1n1", "2 nvme1n1p1 nvme1n1", "3 dm-3 nvme1n1 vdb"]


def test_paths_are_numbered(target: Target) -> None:
    said = target.ask("disk-paths.sh", "/dev/vdb", "/dev/null", "/dev/vda1")
    assert said == ["1 vdb vdb", "3 vda1 vda"]
    assert target.ask("disk-paths.sh") == []


def test_links_lead_to_all_that_claim_them(target: Target) -> None:
    name = f"{LABELS}/my\\x20root"
    target.link(name, "vdb1", number="254:17")
    target.claim(name, "vda1", "254:1")
    target.claim(f"{LABELS}/my", "nvme0n1p1", "259:1")  # another one
    assert target.ask("disk-paths.sh", name) == ["1 vda1 vda", "1 vdb1 vdb"]
    # A link without udev's database, and one whose device is gone.
    target.link("/dev/disk/by-label/data", "nvme0n1p1")
    target.link("/dev/disk/by-label/gone", "vdz1")
    assert target.ask("disk-paths.sh", "/dev/disk/by-label/data", "/dev/disk/by-label/gone") == ["1 nvme0n1p1 nvme0n1"]
    assert target.ask("disk-paths.sh", "/dev/disk/by-label/d*") == ["1 nvme0n1p1 nvme0n1"]


def test_volumes_lead_to_all_disks_below_them(target: Target) -> None:
    target.above("md0", "vda2", "vdb1")
    target.above("dm-0", "md0")
    target.above("dm-1", "nvme0n1p1")
    target.link("/dev/mapper/pool-root", "dm-0")
    target.link("/dev/pool/swap", "dm-1")
    target.link("/dev/md/root", "md0")
    said = target.ask("disk-paths.sh", "/dev/mapper/pool-root", "/dev/pool/swap", "/dev/md/root")
    assert said == ["1 dm-0 vda vdb", "2 dm-1 nvme0n1", "3 md0 vda vdb"]


def test_many_layers_lead_to_the_disk_below_them(target: Target) -> None:
    """A thin volume with a cache, on RAID of LVM, dm-crypt, md: as many layers as people have, and some more."""
    target.above("dm-0", "vda2")
    for number in range(1, 16):
        target.above(f"dm-{number}", f"dm-{number - 1}")
    assert target.ask("disk-paths.sh", "/dev/dm-15") == ["1 dm-15 vda"]


def test_devices_that_lie_on_each_other_without_end_are_not_taken_for_nothing(target: Target) -> None:
    target.above("dm-0", "dm-1")
    target.above("dm-1", "dm-0")
    assert target.ask("disk-paths.sh", "/dev/dm-0") == ["1 dm-0 dm-0"]


def test_what_disks_hold(target: Target, tmp_path: Path) -> None:
    tools = tmp_path / "with-blkid"
    tools.mkdir()
    held = {
        "vda1": "UUID=AB-1\\nTYPE=vfat\\nPART_ENTRY_UUID=no\\n",
        "vda2": "UUID=a b\\nTYPE=\\$(x)\\n",
        "cciss/c0d0p1": "TYPE=LVM2_member\\nUUID=x-Y\\n",
    }
    cases = "\n".join(f'"-p -o export {target.root}/dev/{name}") printf "{said}" ;;' for name, said in held.items())
    (tools / "blkid").write_text(f'#!/bin/sh\ncase "$1 $2 $3 $4" in\n{cases}\n*) exit 2 ;;\nesac\n')
    (tools / "blkid").chmod(0o755)
    said = target.ask("disk-layout.sh", "/dev/vda", "/dev/cciss/c0d0", "/dev/vdz", path=f"{tools}:")
    assert said == [
        "/dev/vda - 0 4096 - -",
        "/dev/vda vda1 2048 1024 vfat AB-1",
        "/dev/vda vda2 4096 1024 - -",
        "/dev/cciss/c0d0 - 0 4096 - -",
        "/dev/cciss/c0d0 cciss!c0d0p1 2048 1024 LVM2_member x-Y",
        "/dev/vdz - 0 - - -",
    ]


def test_partitions_of_a_disk_with_several_paths(target: Target) -> None:
    target.above("dm-0", "vda", "vdb")
    target.above("dm-1", "dm-0")
    target.above("dm-2", "dm-0")
    for name, uuid in (("dm-1", "part1-mpath-36001405"), ("dm-2", "LVM-abc")):
        (target.root / "sys/block/dm-0/holders" / name).mkdir(parents=True)
        target.write(target.root / "sys/block" / name / "dm", uuid=uuid)
    assert target.ask("disk-layout.sh", "/dev/dm-0") == ["/dev/dm-0 - 0 4096 - -", "/dev/dm-0 dm-1 - 4096 - -"]
    assert target.ask("disk-paths.sh", "/dev/dm-1") == ["1 dm-1 vda vdb"]
