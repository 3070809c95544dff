"""dead-man-mark.sh: in stage 2 the mark names the moment at which the timer fires, which counts anew from there."""

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "nix/scripts/installer"
NOW = 1_790_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that stands for the installer's root, with the mark that stage 1 has written."""
    for path in ("root/etc", "root/root", "root/var/lib", "root/proc/sys/kernel", "root/run", "handover", "tools"):
        (tmp_path / path).mkdir(parents=True)
    return tmp_path / "root"


def start(root: Path, script: str, *arguments: str, at: int, shell: list[str], restart_s: int = 0) -> None:
    """Run a script at a moment; `systemctl` takes `restart_s` seconds."""
    tools = root.parent / "tools"
    (tools / "now").write_text(str(at))
    asked = f'echo "$*" >>{tools}/asked; echo {at + restart_s} >{tools}/now'
    for name, text in (("date", f"cat {tools}/now"), ("systemctl", asked)):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(root)}
    subprocess.run([*shell, str(SCRIPTS / script), *arguments], check=True, env=environment, timeout=60)


def marked(root: Path, shell: list[str], dead_man_s: str) -> tuple[str, str, str]:
    """Let stage 1 and stage 2 write the mark, half a minute apart; return both and what systemctl was asked."""
    (root.parent / "handover/holdfast").mkdir()
    (root.parent / "handover/holdfast/run.json").write_text(f'{{\n"run_id": "run-1",\n"dead_man_s": {dead_man_s}\n}}\n')
    start(root, "installer-restore.sh", "--dead-man-s", "900", str(root.parent / "handover"), at=NOW, shell=shell)
    mark = root / "run/holdfast/installer.json"
    first = mark.read_text()
    start(root, "dead-man-mark.sh", at=NOW + 31, shell=shell)
    asked = root.parent / "tools/asked"
    return first, mark.read_text(), asked.read_text() if asked.exists() else ""


@pytest.mark.parametrize(("told", "seconds"), [("600", 600), ("null", 900)])
def test_mark_and_timer_name_one_moment(shell: list[str], root: Path, told: str, seconds: int) -> None:
    before, after, asked = marked(root, shell, told)
    assert json.loads(before)["dead_man_at"] == NOW + seconds
    assert json.loads(after) == {**json.loads(before), "dead_man_at": NOW + 31 + seconds}
    # It counts from here.
    assert asked == "restart holdfast-deadman.timer\n"
    assert (root / "run/holdfast/installer.json").stat().st_mode & 0o777 == 0o644


def test_without_a_dead_man_none_is_started(shell: list[str], root: Path) -> None:
    before, after, asked = marked(root, shell, "0")
    assert after == before
    assert asked == ""


def test_without_a_mark_the_timer_runs_on(shell: list[str], root: Path) -> None:
    start(root, "dead-man-mark.sh", at=NOW, shell=shell)
    assert not (root.parent / "tools/asked").exists()
    assert not (root / "run/holdfast").exists()


def test_mark_is_never_later_than_the_timer(shell: list[str], root: Path) -> None:
    """A slow machine takes seconds for `systemctl restart`; the timer may have started at the first of them."""
    mark = root / "run/holdfast/installer.json"
    mark.parent.mkdir(parents=True)
    mark.write_text('{"image_id": "image-7", "dead_man_at": 1, "dead_man_s": 600}\n')
    start(root, "dead-man-mark.sh", at=NOW, shell=shell, restart_s=5)
    assert json.loads(mark.read_text())["dead_man_at"] == NOW + 600
