"""What the dead-man does when its time is up, on a folder that stands for the installer's root."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "nix/scripts/installer/dead-man.sh"
RAM = "tmpfs / tmpfs rw 0 0\n/dev/loop0 /nix/.ro-store squashfs ro 0 0\n"
LOGIN = "Accepted publickey for root from 100.64.0.1 port 51000 ssh2: ED25519 SHA256:abc"


@dataclass
class Installer:
    root: Path
    tools: Path

    def tool(self, name: str, script: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def journal(self, *lines: str) -> None:
        (self.root / "journal").write_text("".join(f"{line}\n" for line in lines))

    def started_by(self, run_id: str | None) -> None:
        (self.root / "run/holdfast/installer.json").write_text(json.dumps({"image_id": "i", "run_id": run_id}))

    def time_is_up(self) -> str:
        """Run the script; return what it asked systemctl for."""
        asked = self.root / "asked"
        asked.unlink(missing_ok=True)
        env = {"PATH": f"{self.tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(self.root)}
        subprocess.run(["dash", str(SCRIPT)], check=True, env=env, timeout=20)
        return asked.read_text().strip() if asked.exists() else ""


@pytest.fixture
def installer(tmp_path: Path) -> Installer:
    made = Installer(tmp_path / "root", tmp_path / "tools")
    for folder in (made.root / "run/holdfast", made.root / "proc", made.tools):
        folder.mkdir(parents=True)
    (made.root / "proc/mounts").write_text(RAM)
    made.tool("systemctl", f'echo "$*" >{made.root}/asked')
    made.tool("journalctl", f"cat {made.root}/journal")
    made.tool("zpool", "exit 0")
    made.journal("Server listening on 0.0.0.0 port 22.")
    made.started_by("run-1")
    return made


def test_goes_back_if_nobody_came(installer: Installer) -> None:
    assert installer.time_is_up() == "reboot --force --force"


def test_a_login_is_not_enough_for_a_run_of_holdfast(installer: Installer) -> None:
    installer.journal(LOGIN)
    assert installer.time_is_up() == "reboot --force --force"


def test_a_login_is_enough_if_another_tool_started_the_installer(installer: Installer) -> None:
    installer.started_by(None)
    assert installer.time_is_up() == "reboot --force --force"
    installer.journal(LOGIN)
    assert installer.time_is_up() == ""


def test_a_refused_login_is_none(installer: Installer) -> None:
    installer.started_by(None)
    installer.journal("Failed publickey for root from 100.64.0.1 port 51000 ssh2", f"user said: {LOGIN}")
    assert installer.time_is_up() == "reboot --force --force"


def test_without_a_mark_a_login_is_enough(installer: Installer) -> None:
    (installer.root / "run/holdfast/installer.json").unlink()
    installer.journal(LOGIN)
    assert installer.time_is_up() == ""


@pytest.mark.parametrize("mount", ["/dev/vda2 /mnt ext4 rw 0 0\n", "/dev/mapper/crypt /mnt btrfs rw 0 0\n"])
def test_stays_while_a_disk_is_mounted(installer: Installer, mount: str) -> None:
    (installer.root / "proc/mounts").write_text(RAM + mount)
    assert installer.time_is_up() == ""


def test_stays_while_a_pool_is_imported(installer: Installer) -> None:
    installer.tool("zpool", "echo rpool")
    assert installer.time_is_up() == ""


@pytest.mark.parametrize(
    ("seconds", "asked"), [(0, ""), (600, "reboot --force --force"), (10, "reboot --force --force")]
)
def test_stays_if_the_new_disk_booted_it(installer: Installer, seconds: int, asked: str) -> None:
    (installer.root / "run/holdfast/run.json").write_text(f'{{\n"dead_man_s": {seconds},\n"hostname": "cottage"\n}}\n')
    assert installer.time_is_up() == asked


def test_stays_when_the_disks_are_formatted(installer: Installer) -> None:
    (installer.root / "run/holdfast/partition.json").write_text("{}")
    assert installer.time_is_up() == ""


@pytest.mark.parametrize(("armed", "said"), [("exit 0", "fed"), ("exit 3", "not armed")])
def test_it_is_fed_only_while_it_is_armed(installer: Installer, shell: list[str], armed: str, said: str) -> None:
    installer.tool("systemctl", f'case $1 in is-active) {armed} ;; esac; echo "$*" >>{installer.root}/asked')
    argv = [*shell, str(SCRIPT.with_name("dead-man-feed.sh")), "holdfast-deadman.timer"]
    env = {"PATH": f"{installer.tools}:/usr/bin:/bin"}
    done = subprocess.run(argv, check=True, env=env, timeout=20, capture_output=True, text=True)
    asked = installer.root / "asked"
    assert done.stdout.strip() == said
    assert asked.exists() == (said == "fed")
    assert not asked.exists() or asked.read_text() == "restart holdfast-deadman.timer\n"


@pytest.mark.parametrize(
    ("known", "stops", "status", "asked"),
    [(1, 0, 0, ""), (0, 0, 0, "stop holdfast-deadman.timer\n"), (0, 5, 5, "stop holdfast-deadman.timer\n")],
    ids=["none", "stops", "does not stop"],
)
def test_to_disarm_fails_only_if_it_does_not_stop(
    installer: Installer, shell: list[str], known: int, stops: int, status: int, asked: str
) -> None:
    notes = installer.root / "asked"
    notes.touch()
    installer.tool("systemctl", f'[ "$1" != cat ] || exit {known}; echo "$*" >>{notes}; exit {stops}')
    argv = [*shell, str(SCRIPT.with_name("dead-man-disarm.sh")), "holdfast-deadman.timer"]
    env = {"PATH": f"{installer.tools}:/usr/bin:/bin"}
    done = subprocess.run(argv, check=False, env=env, timeout=20, capture_output=True, text=True)
    assert (done.returncode, notes.read_text()) == (status, asked)
