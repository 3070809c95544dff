"""who.sh: which boot answers, whether it is an installer with a mark, and which node it is if that is asked."""

import shutil
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.conftest import Userland

BOOT = "0d2b3c4d-aaaa-4bbb-8ccc-444455556666"
TOOLS = ("sh",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that stands for the machine's root."""
    folder = tmp_path / "root"
    (folder / "proc/sys/kernel/random").mkdir(parents=True)
    (folder / "proc/sys/kernel/random/boot_id").write_text(f"{BOOT}\n")
    return folder


def who(userland: Userland, folder: Path, *args: str) -> str:
    done = subprocess.run(
        [str(shutil.which(userland.shell[0])), *userland.shell[1:], "-c", script("any/who.sh"), "who.sh", *args],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": f"{folder}/bin:{userland.path}", "HOLDFAST_ROOT": str(folder)},
    )
    assert done.stderr == ""
    return done.stdout


def test_boot_and_mark(userland: Userland, folder: Path) -> None:
    assert who(userland, folder) == f"who 1 {BOOT} no\n"
    (folder / "run/holdfast").mkdir(parents=True)
    (folder / "run/holdfast/installer.json").write_text("{}")
    assert who(userland, folder) == f"who 1 {BOOT} yes\n"


def test_node_if_it_is_asked(userland: Userland, folder: Path) -> None:
    (folder / "bin").mkdir()
    program = folder / "bin/tailscale"
    program.write_text('#!/bin/sh\necho "{$*}"\necho "not for us" >&2\n')
    program.chmod(0o755)
    assert who(userland, folder) == f"who 1 {BOOT} no\n"
    assert who(userland, folder, "node") == f"who 1 {BOOT} no\n{{status --json --peers=false}}\n"


def test_machine_without_tailscale_still_says_its_boot(userland: Userland, folder: Path) -> None:
    tools = Userland(userland.shell, str(folder))
    assert who(tools, folder, "node") == f"who 1 {BOOT} no\n"
