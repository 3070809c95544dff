"""forget-keys.sh: keys in RAM go when the formatting has ended, and in time, whatever the link does."""

import subprocess
import time
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.conftest import Userland

TOOLS = ("sh", "cat", "dd", "rm", "wc")
SCRIPT = script("installer/forget-keys.sh")
UNITS = "holdfast-partition-*.service"
UP_S = 1000
# Each pause takes two seconds of the machine's time, and the next chapter of the story.
SLEEP = """#!/bin/sh
[ ! -e "$FOLDER/hangs" ] || exec /bin/sleep 60
read -r up _ <"$FOLDER/proc/uptime"; echo "$((up + $1)) 0" >"$FOLDER/proc/uptime"
read -r number <"$FOLDER/number"; echo "$((number + 1))" >"$FOLDER/number"
"""
SYSTEMCTL = """#!/bin/sh
echo "$*" >"$FOLDER/asked"
read -r number <"$FOLDER/number"
if [ -e "$FOLDER/story/$number" ]; then cat "$FOLDER/story/$number"; else cat "$FOLDER/story/last"; fi
[ ! -e "$FOLDER/broken" ]
"""


def unit(sub: str, started_s: int = UP_S) -> str:
    return f"ExecMainStartTimestampMonotonic={started_s * 1000000 + 500000}\nSubState={sub}\n"


OLD = unit("failed", UP_S - 500)
NEVER = unit("dead", 0).replace("500000", "0", 1)


class Installer:
    """An installer with two keys in its RAM."""

    def __init__(self, userland: Userland, folder: Path) -> None:
        self.userland, self.folder = userland, folder
        self.keys = [folder / "key a", folder / "key $HOME"]
        for key in self.keys:
            key.write_text("secret")
        (folder / "key a.holdfast-new").write_text("half")
        for name in ("proc", "story", "fakes"):
            (folder / name).mkdir()
        (folder / "proc/uptime").write_text(f"{UP_S} 0\n")
        (folder / "number").write_text("0\n")
        for name, text in (("sleep", SLEEP), ("systemctl", SYSTEMCTL)):
            (folder / "fakes" / name).write_text(text)
            (folder / "fakes" / name).chmod(0o755)

    def start(self, seconds: int, units: str = UNITS) -> subprocess.Popen[str]:
        path = f"{self.folder / 'fakes'}:{self.userland.path}"
        return subprocess.Popen(
            [*self.userland.shell, "-c", SCRIPT, "forget-keys.sh", str(seconds), units, *map(str, self.keys)],
            env={"PATH": path, "FOLDER": str(self.folder), "HOLDFAST_ROOT": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def after(self, seconds: int, units: str, *story: str) -> int:
        """Let systemd tell a story, a chapter each two seconds. Return after how many seconds the keys were gone."""
        for number, chapter in enumerate(story, 1):
            (self.folder / "story" / str(number)).write_text(chapter)
        (self.folder / "story/last").write_text(story[-1] if story else "")
        running = self.start(seconds, units)
        out, err = running.communicate(timeout=120)
        assert (running.returncode, out, err) == (0, "the keys are removed\n", "")
        assert self.left() == []
        return int((self.folder / "proc/uptime").read_text().split()[0]) - UP_S

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("key*"))


@pytest.fixture
def installer(userland: Userland, tmp_path: Path) -> Installer:
    return Installer(userland, tmp_path)


RUNS = unit("running")


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        pytest.param(["", "", RUNS, RUNS, unit("exited")], 10, id="formatted"),
        pytest.param([RUNS, unit("failed")], 4, id="failed"),
        pytest.param(["", unit("exited", UP_S + 1)], 4, id="ended between two looks"),
        pytest.param([unit("start"), unit("start-post"), unit("dead")], 6, id="other words for running"),
        pytest.param([RUNS, ""], 4, id="the unit was unloaded"),
        pytest.param([f"{OLD}\n{RUNS}", f"{OLD}\n{unit('exited')}"], 4, id="beside an older one"),
        pytest.param([f"{unit('exited')}\n{RUNS}", RUNS, unit("exited")], 6, id="another still runs"),
        pytest.param([unit("running", UP_S - 300), unit("exited", UP_S - 300)], 4, id="began before"),
        pytest.param([OLD], 60, id="only an older one: the time"),
        pytest.param([NEVER], 60, id="never started: the time"),
        pytest.param([""], 60, id="nothing: the time"),
        pytest.param([RUNS], 60, id="too long: the time"),
        pytest.param(["SubState=running\nX=$(reboot)\n", "garbage\n\n\n"], 4, id="strange lines"),
    ],
)
def test_keys_go_when_the_work_has_ended(installer: Installer, story: list[str], expected: int) -> None:
    assert installer.after(60, UNITS, *story) == expected
    asked = (installer.folder / "asked").read_text()
    assert asked == f"show --all --property=SubState,ExecMainStartTimestampMonotonic {UNITS}\n"


def test_without_a_unit_only_the_time_counts(installer: Installer) -> None:
    assert installer.after(30, "-", unit("exited")) == 30
    assert not (installer.folder / "asked").exists()


def test_a_systemd_that_does_not_answer_lets_the_time_count(installer: Installer) -> None:
    (installer.folder / "broken").touch()
    assert installer.after(20, UNITS, RUNS, unit("exited")) == 20


def test_keys_are_overwritten(installer: Installer) -> None:
    kept = [key.open("rb") for key in installer.keys]
    installer.after(2, "-")
    for file in kept:
        with file:
            assert file.read() == bytes(len("secret"))


def test_told_to_end_it_removes_the_keys(installer: Installer) -> None:
    (installer.folder / "hangs").touch()
    running = installer.start(600)
    ends = time.monotonic() + 60
    while not (children := subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, check=False).stdout):
        assert time.monotonic() < ends
    # systemd ends all of a unit's processes.
    for pid in [running.pid, *map(int, children.split())]:
        subprocess.run(["kill", str(pid)], check=False)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (0, "the keys are removed\n"), err
    assert installer.left() == []
