"""holdfast/nixcli/layout.nix, evaluated by a real nix, and what the plan makes of its answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.base import process
from holdfast.base.settings import settings
from holdfast.base.size import MIB
from holdfast.nixcli import evaluation
from holdfast.plan.layout import Layout, Raid, Volume, parse_layout
from tests.unit.disko_layouts import FOLDER, LAYOUTS, layout, recorded

GIB = 1024 * MIB
FUNCTION = Path(evaluation.__file__).with_name("layout.nix")


def asked(devices: str) -> Any:
    """Return what layout.nix answers about `config.disko.devices`, written in Nix."""
    command = [*settings().nix, "eval", "--impure", "--json", "--expr", f"(import {FUNCTION}) ({devices})"]
    return json.loads(process.run_local(command, timeout_s=60).stdout)


@pytest.mark.usefixtures("real_nix")
def test_recorded_layouts_come_from_layout_nix() -> None:
    said = asked_of_all()
    assert len(said) >= 20
    assert said == {name: recorded(name)["mounts"] for name in said}


def asked_of_all() -> dict[str, Any]:
    command = [*settings().nix, "eval", "--impure", "--json", "--expr"]
    expression = f"builtins.mapAttrs (_: import {FUNCTION}) (import {FOLDER}/layouts.nix)"
    said: dict[str, Any] = json.loads(process.run_local([*command, expression], timeout_s=60).stdout)
    return said


@pytest.mark.usefixtures("real_nix")
@pytest.mark.parametrize(
    ("devices", "places"),
    [
        ("null", None),
        ('{ disk = throw "no"; }', None),
        ('{ disk.a.content = throw "no"; }', None),
        ("{ }", []),
        ('{ disk = "x"; zpool = 7; nodev = [ ]; mdadm = null; lvm_vg = true; }', []),
        ('{ disk.a = "x"; zpool.p = "x"; nodev.n = 1; mdadm.m = { }; lvm_vg.v.lvs = 1; }', ["n"]),
        ("{ disk.a.content = { type = [ ]; partitions = 7; }; }", []),
        ('{ disk.a.content = { type = "gpt"; partitions.x = { content = "x"; priority = "y"; }; }; }', []),
        ('{ disk.a.content = { type = "filesystem"; mountpoint = 3; format = "ext4"; }; }', ["3"]),
        ('{ disk.a.content = { type = "filesystem"; mountpoint = null; }; }', []),
        ('{ disk.a.content = { type = "zfs"; pool = null; }; zpool.p.datasets.x.mountpoint = "/x"; }', ["/x"]),
        # Before 2023 disko's table was a list, and told the kind of a dataset in another way.
        (
            '{ disk.a.content = { type = "table"; format = "msdos"; partitions = [ { type = "partition"; content ='
            ' { type = "filesystem"; format = "ext4"; mountpoint = "/"; }; } ]; };'
            ' zpool.p.datasets = { a = { zfs_type = "filesystem"; mountpoint = "/a"; };'
            ' b = { zfs_type = "volume"; content = { type = "filesystem"; format = "xfs"; mountpoint = "/b"; };'
            " }; }; }",
            ["/", "/a", "/b"],
        ),
        (
            '{ disk.a.content = { type = "lvm_pv"; vg = "a"; }; lvm_vg = {'
            ' a.lvs = { x.content = { type = "lvm_pv"; vg = "b"; }; };'
            ' b.lvs = { x.content = { type = "lvm_pv"; vg = "a"; };'
            ' y.content = { type = "filesystem"; format = "ext4"; mountpoint = "/round"; }; }; }; }',
            ["/round"],
        ),
        ('{ nodev."/tmp".fsType = "tmpfs"; nodev.x = { mountpoint = "/y"; fsType = "nfs"; }; }', ["/tmp", "/y"]),
    ],
)
def test_what_nobody_expects_is_not_fatal(devices: str, places: list[str] | None) -> None:
    said = asked(devices)
    assert (None if said is None else [mount["place"] for mount in said]) == places
    made = parse_layout(said)
    assert (made is None) == (places is None)


def test_each_recorded_layout_has_a_root() -> None:
    assert len(LAYOUTS) >= 45
    assert [name for name in LAYOUTS if not layout(name).at("/")] == []


@pytest.mark.parametrize(
    ("volume", "size_bytes"),
    [
        ({"by": "sgdisk", "size": "500M"}, 500 * MIB),
        ({"by": "sgdisk", "size": "2048"}, MIB),
        ({"by": "sgdisk", "size": "1G", "start": "1M"}, GIB),
        ({"by": "sgdisk", "end": "+100M", "number": 4}, 100 * MIB),
        ({"by": "sgdisk", "start": "1M", "end": "128M"}, 127 * MIB),
        ({"by": "sgdisk", "start": "2048s", "end": "4096s"}, MIB),
        ({"by": "sgdisk", "end": "500M", "number": 1}, 499 * MIB),
        ({"by": "sgdisk", "end": "500M", "number": 2}, None),
        ({"by": "sgdisk", "start": "1G", "end": "500M"}, None),
        ({"by": "sgdisk", "start": "-2G", "end": "500M"}, None),
        ({"by": "sgdisk", "size": "half"}, None),
        ({"by": "sgdisk", "size": "5Q"}, None),
        ({"by": "parted", "start": "1MiB", "end": "100MiB"}, 99 * MIB),
        ({"by": "parted", "start": "1M", "end": "500M"}, 499_000_000),
        ({"by": "parted", "start": "1", "end": "500"}, 499_000_000),
        ({"by": "parted", "start": "1MB", "end": "1.5GB"}, 1_499_000_000),
        ({"by": "parted", "start": "0%", "end": "500M"}, None),
        ({"by": "lvm", "size": "10M"}, 10 * MIB),
        ({"by": "lvm", "size": "10"}, 10 * MIB),
        ({"by": "lvm", "size": "1.5g"}, 3 * GIB // 2),
        ({"by": "zfs", "size": "10M"}, 10 * MIB),
        ({"by": "zfs", "size": "1048576"}, MIB),
    ],
)
def test_size(volume: dict[str, Any], size_bytes: int | None) -> None:
    made = Volume.model_validate(volume)
    assert made.size_bytes == size_bytes
    assert not made.takes_rest


@pytest.mark.parametrize(
    "volume",
    [
        {"by": "sgdisk", "size": "100%"},
        {"by": "sgdisk"},
        {"by": "sgdisk", "end": "-1G"},
        {"by": "sgdisk", "start": "1M", "end": "-0", "size": "100%"},
        {"by": "parted", "start": "500M", "end": "100%"},
        {"by": "lvm", "size": "100%FREE"},
        {"by": "lvm", "size": "50%VG"},
        {},
    ],
)
def test_rest_of_a_disk(volume: dict[str, Any]) -> None:
    made = Volume.model_validate(volume)
    assert made.takes_rest
    assert made.size_bytes is None


@pytest.mark.parametrize(
    ("level", "metadata", "shows"),
    [("1", "1.0", True), ("1", "0.90", True), ("1", "", False), ("1", "1.2", False), ("0", "1.0", False)],
)
def test_firmware_reads_only_mirrors_with_their_superblock_last(level: str, metadata: str, *, shows: bool) -> None:
    assert Raid(level=level, metadata=metadata).shows_file_system is shows


@pytest.mark.parametrize(
    "said",
    [
        None,
        7,
        "x",
        {},
        [7],
        [{"place": "/"}],
        [{"place": "/" * 5000, "type": "ext4"}],
        [{"place": "/", "type": "ext4"}] * 1001,
        [{"place": "/", "type": "ext4", "layers": ["x"] * 1001}],
        [{"place": "/", "type": "ext4", "volume": {"by": "rm"}}],
        [{"place": "/", "type": "ext4", "volume": {"number": -1}}],
        [{"place": "/", "type": "ext4", "encrypted": "maybe"}],
        [{"place": "/", "type": "ext4", "unknown": 1}],
    ],
)
def test_another_answer_is_no_layout(said: Any) -> None:
    assert parse_layout(said) is None


@pytest.mark.parametrize("place", ["/", "/boot"])
def test_mount_is_found_by_its_place(place: str) -> None:
    made = parse_layout([{"place": "/", "type": "ext4"}, {"place": "/boot/", "type": "vfat"}])
    assert made is not None
    found = made.at(place)
    assert found is not None
    assert found.type == {"/": "ext4", "/boot": "vfat"}[place]
    assert Layout(mounts=()).at(place) is None
