"""The script that proves kept disks untouched, on files that stand for disks."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.conftest import Userland

SCRIPT = script("installer/disk-digests.sh")
TOOLS = ("cut", "dd", "mktemp", "od", "rm", "sha256sum", "tr")
MIB = 1024 * 1024


@dataclass
class Target:
    root: Path
    userland: Userland

    def disk(self, name: str, data: bytes | bytearray, *, sectors: str | None = None) -> Path:
        file = self.root / "dev" / name
        file.write_bytes(data)
        size = self.root / "sys/block" / name
        size.mkdir(parents=True)
        (size / "size").write_text(f"{len(data) // 512 if sectors is None else sectors}\n")
        return file

    def ask(self, *disks: str) -> list[str]:
        env = {"PATH": self.userland.path, "HOLDFAST_ROOT": str(self.root)}
        command = [*self.userland.shell, "-s", "--", *disks]
        text = SCRIPT.encode()
        done = subprocess.run(command, input=text, capture_output=True, env=env, check=True, timeout=60)
        assert done.stderr == b""
        return done.stdout.decode().splitlines()


@pytest.fixture
def target(userland: Userland, tmp_path: Path) -> Target:
    (tmp_path / "root/dev").mkdir(parents=True)
    return Target(tmp_path / "root", userland)


def line(name: str, data: bytes | bytearray) -> str:
    return f"/dev/{name} {hashlib.sha256(data[:MIB]).hexdigest()} {hashlib.sha256(data[-MIB:]).hexdigest()}"


def test_first_and_last_mib(target: Target) -> None:
    data = bytearray(os.urandom(3 * MIB + 512))
    file = target.disk("vda", data)
    small = os.urandom(4096)
    target.disk("nvme0n1", small)
    before = target.ask("/dev/vda", "/dev/nvme0n1")
    assert before == [line("vda", data), line("nvme0n1", small)]
    for place, seen in ((MIB - 1, True), (MIB, False), (2 * MIB + 511, False), (2 * MIB + 512, True), (-1, True)):
        changed = data.copy()
        changed[place] ^= 1
        file.write_bytes(changed)
        assert (target.ask("/dev/vda") != before[:1]) is seen, place


def test_read_only_disk_is_read(target: Target) -> None:
    data = os.urandom(MIB)
    target.disk("sr0", data).chmod(0o400)
    assert target.ask("/dev/sr0") == [line("sr0", data)]


def test_disk_with_a_folder_of_its_own(target: Target) -> None:
    data = os.urandom(2 * MIB)
    target.disk("c0d0", data, sectors="1")
    (target.root / "dev/cciss").mkdir()
    (target.root / "dev/c0d0").rename(target.root / "dev/cciss/c0d0")
    (target.root / "sys/block/c0d0").rename(target.root / "sys/block/cciss!c0d0")
    (target.root / "sys/block/cciss!c0d0/size").write_text(f"{2 * MIB // 512}\n")
    assert target.ask("/dev/cciss/c0d0") == [line("cciss/c0d0", data)]


def test_disk_that_is_gone_or_cannot_be_read(target: Target) -> None:
    (target.root / "dev/sdb").mkdir()  # reading it is an error
    target.disk("sdc", b"", sectors="0")
    target.disk("sdd", os.urandom(512), sectors="x; id")
    target.disk("sde", data := os.urandom(1024))
    said = target.ask("/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/sdd", "/dev/sde")
    assert said == [
        "/dev/sda gone",
        "/dev/sdb unreadable",
        "/dev/sdc unreadable",
        "/dev/sdd unreadable",
        line("sde", data),
    ]


def test_disk_that_fails_half_way_is_unreadable(target: Target, tmp_path: Path) -> None:
    target.disk("sda", os.urandom(4 * MIB))
    tools = tmp_path / "failing"
    tools.mkdir()
    real = shutil.which("dd")
    (tools / "dd").write_text(f'#!/bin/sh\n{real} "$@"\nexit 1\n')
    (tools / "dd").chmod(0o755)
    target.userland = replace(target.userland, path=f"{tools}:{target.userland.path}:/bin")
    assert target.ask("/dev/sda") == ["/dev/sda unreadable"]


def test_strange_names_are_only_names(target: Target) -> None:
    assert target.ask("/dev/$(id)", "/dev/a b", "/dev/*") == ["/dev/$(id) gone", "/dev/a b gone", "/dev/* gone"]
    assert target.ask() == []
