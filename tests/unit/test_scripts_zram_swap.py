"""zram-swap.sh: the installer's swap in RAM, once, and only where the kernel has it."""

import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.conftest import Userland

TOOLS = ("sh", "cat")
SCRIPT = script("installer/zram-swap.sh")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "sys/block/zram0/disksize": "0\n",
        "sys/module/zswap/parameters/enabled": "Y\n",
        "proc/meminfo": "MemTotal:         480000 kB\nMemFree:           1000 kB\n",
    }
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "root"


def run(userland: Userland, root: Path) -> list[str]:
    """Run it; return which programs it called, and how."""
    fakes, calls = root.parent / "fakes", root.parent / "calls"
    fakes.mkdir(exist_ok=True)
    calls.write_text("")
    for name in ("modprobe", "mkswap", "swapon"):
        (fakes / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{calls}\n')
        (fakes / name).chmod(0o755)
    env = {"PATH": f"{fakes}:{userland.path}", "HOLDFAST_ROOT": str(root)}
    command = [*userland.shell, "-c", SCRIPT]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
    return calls.read_text().replace(str(root), "").splitlines()


def test_swap_is_as_large_as_the_memory(userland: Userland, root: Path) -> None:
    assert run(userland, root) == ["modprobe --quiet zram", "mkswap /dev/zram0", "swapon -p 100 /dev/zram0"]
    assert (root / "sys/block/zram0/disksize").read_text() == f"{480000 * 1024}\n"
    assert (root / "sys/module/zswap/parameters/enabled").read_text() == "N\n"


def test_what_is_set_up_stays(userland: Userland, root: Path) -> None:
    (root / "sys/block/zram0/disksize").write_text("4096\n")
    assert run(userland, root) == ["modprobe --quiet zram"]


def test_kernel_without_it(userland: Userland, root: Path) -> None:
    (root / "sys/block/zram0/disksize").unlink()
    assert run(userland, root) == ["modprobe --quiet zram"]


def test_kernel_without_zswap(userland: Userland, root: Path) -> None:
    (root / "sys/module/zswap/parameters/enabled").unlink()
    assert len(run(userland, root)) == 3
