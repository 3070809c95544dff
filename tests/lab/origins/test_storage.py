"""Storage on several disks, made with its real tools: what the facts see of it, and what a plan makes of that."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.base.errors import TargetRefused
from holdfast.base.settings import settings
from holdfast.facts.disks import Disk
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host
from holdfast.inventory.loading import chosen_host
from holdfast.plan.disks import DiskoDisk, plan_disks
from holdfast.target.look import look
from holdfast.target.machine import Machine
from lab import storage
from lab.final import FLAKE, flake_dir
from lab.nix import nix_wrapper
from lab.runtime import Lab
from lab.world import PROJECT
from tests.log import Remembered

pytestmark = [pytest.mark.lab, pytest.mark.origins]

DEBIAN = "12"
BY_ID = "/dev/disk/by-id"
MAIN = f"{BY_ID}/virtio-COTTAGE0001"
DEVICES = "disko = { inherit (layout) devices; };"
ROOT = tuple(f"{BY_ID}/virtio-{serial}" for serial in storage.ROOT_SERIALS)
LVM, RAID, BTRFS = (tuple(storage.SERIALS[first : first + 2]) for first in (0, 2, 4))


def link(serial: str) -> str:
    return f"{BY_ID}/scsi-0QEMU_QEMU_HARDDISK_{serial}"


@pytest.fixture(scope="module")
def stored(lab: Lab) -> Iterator[Lab]:
    """The lab with its machine in its origin, which has storage on several disks."""
    if not lab.ssh_local(["sh", "-c", "cat /etc/debian_version 2>/dev/null || echo other"]).startswith(DEBIAN):
        lab.start_over()
    try:
        storage.make(lab)
        yield lab
    finally:
        lab.start_over()


@pytest.fixture(scope="module")
def env(stored: Lab) -> dict[str, str]:
    """The environment of an operator without Prefect, whose inventory has the machine."""
    shutil.copytree(flake_dir(stored.run_dir), stored.run_dir / "storage-flake", symlinks=True, dirs_exist_ok=True)
    (stored.run_dir / "storage.toml").write_text(
        f'[cottage]\ntarget = "{stored.address}"\nflake = "path:{stored.run_dir}/storage-flake"\n'
        f'kexec = "path:{stored.run_dir}/storage-flake#kexec"\nidentity_file = "{stored.key}"\n'
        f'proxy = "tailscale-nc"\nhost_key = "{" ".join(stored.host_key.split()[:2])}"\n'
    )
    return {
        "PATH": f"{nix_wrapper(stored.run_dir)}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOLDFAST_STATE_DIR": str(stored.run_dir / "storage-state"),
        "HOLDFAST_INVENTORY": str(stored.run_dir / "storage.toml"),
        "HOLDFAST_TAILSCALE": json.dumps(stored.tailscale),
    }


@pytest.fixture(scope="module")
def host(env: dict[str, str]) -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        yield chosen_host(settings().inventory, "cottage")


@pytest.fixture(scope="module")
def facts(host: Host) -> Facts:
    """What the machine says over the tailnet."""
    with Machine(host, Remembered()).connect() as target:
        return look(target)


def disk(facts: Facts, serial: str) -> Disk:
    [found] = [disk for disk in facts.disks if link(serial) in disk.links]
    return found


def plan(facts: Facts, host: Host, *devices: str) -> tuple[set[str], set[str]]:
    """Return the names of the disks that a flake with these devices wipes, and of those that it keeps."""
    disko = {f"disk{number}": DiskoDisk(device=device) for number, device in enumerate(devices)}
    planned = plan_disks(disko, facts, host)
    return {disk.name for disk in planned.wipe}, {disk.name for disk in planned.keep}


@pytest.mark.parametrize(
    ("kind", "serials", "place"),
    [
        ("LVM volume group", LVM, "/srv/volume"),
        ("RAID array", RAID, "/srv/array"),
        ("btrfs", BTRFS, "/srv/btrfs"),
    ],
)
def test_group_is_seen_with_all_its_disks_and_where_it_is_mounted(
    facts: Facts, host: Host, kind: str, serials: tuple[str, str], place: str
) -> None:
    members = [disk(facts, serial) for serial in serials]
    [group] = [group for group in facts.groups if group.kind == kind]
    assert set(group.disks) == {member.name for member in members}
    assert group.mountpoints == (place,)
    for member in members:
        assert place in member.mountpoints, member
        assert place in member.describe_content()
    wipe, keep = plan(facts, host, *map(link, serials))
    assert wipe == set(group.disks)
    assert not wipe & keep


@pytest.mark.parametrize(
    ("wiped", "kept", "place"),
    [
        (LVM[0], LVM[1], "/srv/volume"),
        # Of the file system there is nothing on this disk; the volume group would go with it.
        (LVM[1], LVM[0], "/srv/volume"),
        (RAID[1], RAID[0], "/srv/array"),
        # It is mounted by the other one.
        (BTRFS[1], BTRFS[0], "/srv/btrfs"),
    ],
)
def test_group_is_not_torn_apart(facts: Facts, host: Host, wiped: str, kept: str, place: str) -> None:
    with pytest.raises(TargetRefused) as info:
        plan(facts, host, link(wiped))
    for part in (disk(facts, wiped).path, disk(facts, kept).path, place):
        assert part in info.value.message
    allowed = host.model_copy(update={"allow": ("breaks-group",)})
    assert plan(facts, allowed, link(wiped))[0] == {disk(facts, wiped).name}


@pytest.mark.parametrize(
    "device",
    [
        link(storage.PATHS),
        f"{BY_ID}/wwn-{storage.WWN:#x}",
        f"{BY_ID}/scsi-3{storage.WWN:x}",
        f"{BY_ID}/dm-uuid-mpath-3{storage.WWN:x}",
        f"/dev/mapper/3{storage.WWN:x}",
    ],
)
def test_disk_with_two_paths_is_one_disk(facts: Facts, host: Host, device: str) -> None:
    one = disk(facts, storage.PATHS)
    assert one.mountpoints == ("/srv/paths",)
    assert [other.name for other in facts.disks if other.mountpoints == one.mountpoints] == [one.name]
    wipe, keep = plan(facts, host, device)
    assert wipe == {one.name}
    assert keep == {other.name for other in facts.disks} - wipe


def just_plan(lab: Lab, env: dict[str, str], *devices: str) -> subprocess.CompletedProcess[str]:
    """Run `just plan` with a flake that wipes disks of these names."""
    text = (FLAKE / "flake.nix").read_text()
    assert text.count(MAIN) == text.count(DEVICES) == 1
    disks = (
        f'd{number} = layout.devices.disk.main // {{ device = "{name}"; }};' for number, name in enumerate(devices)
    )
    wiped = f"disko.devices.disk = {{ {' '.join(disks)} }};"
    (lab.run_dir / "storage-flake" / "flake.nix").write_text(text.replace(MAIN, devices[0]).replace(DEVICES, wiped))
    command = [sys.executable, "-m", "deployments.plan", "cottage"]
    return subprocess.run(
        command, cwd=PROJECT, env=os.environ | env, capture_output=True, text=True, timeout=300, check=False
    )


def test_just_plan_refuses_to_tear_a_group_apart(stored: Lab, env: dict[str, str]) -> None:
    done = just_plan(stored, env, link(BTRFS[1]))
    assert done.returncode == 2, done.stdout + done.stderr
    for part in ("btrfs pool", "/srv/btrfs", "breaks-group"):
        assert part in done.stderr


def test_just_plan_shows_what_is_kept(stored: Lab, env: dict[str, str]) -> None:
    done = just_plan(stored, env, MAIN)
    assert done.returncode == 0, done.stdout + done.stderr
    wiped, _, kept = done.stdout.partition("Will not be touched")
    assert "/srv/" not in wiped
    for place in ("/srv/volume", "/srv/array", "/srv/btrfs", "/srv/paths"):
        assert place in kept
    for name in (*storage.SERIALS, f"{storage.WWN:x}"):
        assert name in kept


@pytest.fixture(scope="module")
def mirrored(stored: Lab) -> Lab:
    """The lab with its machine in an origin whose root is on a RAID 1; the other storage is no longer mounted."""
    storage.mirror_root(stored)
    return stored


def test_root_on_a_raid_is_seen_on_both_disks(mirrored: Lab, host: Host) -> None:
    assert mirrored.ssh_local(["findmnt", "-rn", "-o", "SOURCE", "/"]).strip() == "/dev/md1"
    with Machine(host, Remembered()).connect() as target:
        seen = look(target)
    [group] = [group for group in seen.groups if "/" in group.mountpoints]
    assert group.kind == "RAID array"
    members = [disk for disk in seen.disks if disk.serial in storage.ROOT_SERIALS]
    assert {disk.name for disk in members} == set(group.disks)
    assert all("/" in disk.mountpoints for disk in members)


@pytest.mark.parametrize("member", ROOT)
def test_just_plan_refuses_one_disk_of_the_root(mirrored: Lab, env: dict[str, str], member: str) -> None:
    done = just_plan(mirrored, env, member)
    assert done.returncode == 2, done.stdout + done.stderr
    for part in ("RAID array md1 (at /)", "breaks-group"):
        assert part in done.stderr


def test_just_plan_shows_the_root_on_both_disks(mirrored: Lab, env: dict[str, str]) -> None:
    done = just_plan(mirrored, env, *ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    wiped, _, kept = done.stdout.partition("Will not be touched")
    for serial in storage.ROOT_SERIALS:
        assert serial in wiped
        assert serial not in kept
