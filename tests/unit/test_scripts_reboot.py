"""The origin's own reboot: by systemd where that runs, else by the program `reboot`, after its caller has gone."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.conftest import Userland

TOOLS = ("sh",)


def run(userland: Userland, folder: Path, *, tools: str = "") -> "subprocess.CompletedProcess[str]":
    """Run it as a connection does: the script on standard input, both outputs read until nobody holds them."""
    return subprocess.run(
        [str(shutil.which(userland.shell[0])), *userland.shell[1:], "-s", "--"],
        input=script("origin/reboot.sh"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": tools or f"{folder}/bin:{userland.path}", "HOLDFAST_ROOT": str(folder)},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that stands for the origin's root; its programs write down how they were called."""
    folder = tmp_path / "origin"
    (folder / "bin").mkdir(parents=True)
    for name in ("systemd-run", "reboot"):
        # In one step, so that a reader sees all of it.
        text = f'#!/bin/sh\necho "$0 $*" >{folder}/new && mv {folder}/new {folder}/called\n'
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    for name in ("mv", "sleep"):
        (folder / "bin" / name).symlink_to(str(shutil.which(name)))
    return folder


def test_systemd_reboots_it_by_itself_and_through_its_boot_loader(userland: Userland, folder: Path) -> None:
    (folder / "run/systemd/system").mkdir(parents=True)
    done = run(userland, folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    words = (folder / "called").read_text().split()
    assert words[0].endswith("/systemd-run")
    assert words[-2:] == ["systemctl", "reboot"]
    assert "--on-active=2s" in words
    # Else a kernel that kexec has loaded, or a root in /run/nextroot, would be started without the boot loader.
    assert {"--setenv=SYSTEMCTL_SKIP_AUTO_KEXEC=1", "--setenv=SYSTEMCTL_SKIP_AUTO_SOFT_REBOOT=1"} <= set(words)


def test_any_other_system_is_rebooted_by_its_own_program_after_the_answer(userland: Userland, folder: Path) -> None:
    waits = folder / "bin" / "sleep"
    waits.unlink()
    waits.write_text(f"#!/bin/sh\nuntil [ -e {folder}/answered ]; do {shutil.which('sleep')} 0.1; done\n")
    waits.chmod(0o755)
    done = run(userland, folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (folder / "called").exists()
    (folder / "answered").touch()
    ends = time.monotonic() + 60
    while not (folder / "called").exists():
        assert time.monotonic() < ends, "nothing rebooted it"
        time.sleep(0.1)
    assert (folder / "called").read_text().split()[0].endswith("/reboot")


def test_system_without_such_a_program_says_so(userland: Userland, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    done = run(userland, folder, tools=str(tmp_path / "few"))
    assert done.returncode != 0
    assert "there is no program reboot" in done.stderr
