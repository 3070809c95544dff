"""A command in a session of its own, also where setsid is busybox' and knows no --wait (Alpine), or is not there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script

# Prints its standard input, its session and its process id.
COMMAND = 'cat; read -r _ _ _ _ _ session _ </proc/$$/stat; echo "$session $$"; exit 7'


def run(folder: Path, shell: list[str], path: str, command: str = COMMAND) -> "subprocess.CompletedProcess[str]":
    argv = [*shell, "-c", script("origin/own-session.sh"), "own-session.sh", *shell, "-c", command]
    return subprocess.run(
        argv, input="secret\n", capture_output=True, text=True, check=False, timeout=60, env={"PATH": path}, cwd=folder
    )


def busybox_alone(folder: Path) -> str:
    """Return a folder for PATH with busybox' programs only."""
    busybox = shutil.which("busybox")
    assert busybox
    for name in ("sh", "setsid", "cat"):
        (folder / name).symlink_to(busybox)
    return str(folder)


@pytest.mark.parametrize("tools", ["util-linux", "busybox"])
@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["busybox", "sh"]], ids=" ".join)
def test_command_has_its_session_its_input_and_its_status(tmp_path: Path, shell: list[str], tools: str) -> None:
    found = shutil.which(shell[0])
    assert found
    path = busybox_alone(tmp_path) if tools == "busybox" else os.environ["PATH"]
    done = run(tmp_path, [found, *shell[1:]], path)
    assert (done.returncode, done.stderr) == (7, "")
    said, ids = done.stdout.splitlines()
    assert said == "secret"
    session, process = ids.split()
    assert session == process


@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["busybox", "sh"]], ids=" ".join)
def test_no_hangup_ends_it_where_there_is_no_setsid(tmp_path: Path, shell: list[str]) -> None:
    found = shutil.which(shell[0])
    assert found
    path = busybox_alone(tmp_path)
    (tmp_path / "setsid").unlink()
    done = run(tmp_path, [found, *shell[1:]], path, "cat; kill -HUP $$; echo goes on; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "secret\ngoes on\n", "")


def test_first_shell_that_becomes_the_command_is_no_trouble(tmp_path: Path) -> None:
    """A shell may become the last command of its line: then it leads its process group, and setsid would fork."""
    done = subprocess.run(
        ["setsid", "dash", "-c", 'exec dash -c "$0" own-session.sh dash -c "exit 7"', script("origin/own-session.sh")],
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 7
