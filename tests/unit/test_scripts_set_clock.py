"""set-clock.sh: the installer never starts before the time that was handed over."""

import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.conftest import Userland

TOOLS = ("cat", "head", "sed")
SCRIPT = script("installer/set-clock.sh")
# `date` with a clock that is a file.
DATE = (
    '#!/bin/sh\ncase $1 in -s) echo "${2#@}" >"$CLOCK" ;; +%s) cat "$CLOCK" ;; *) echo "day $(cat "$CLOCK")" ;; esac\n'
)

NOW = 1790000000
BEHIND = NOW - 3 * 365 * 86400
EPOCH = 7


@pytest.fixture
def set_clock(userland: Userland, tmp_path: Path) -> "Clock":
    return Clock(userland, tmp_path)


class Clock:
    """A clock, and what was handed over."""

    def __init__(self, userland: Userland, folder: Path) -> None:
        self.userland, self.clock, self.run = userland, folder / "clock", folder / "run.json"
        bin_ = folder / "date-bin"
        bin_.mkdir()
        (bin_ / "date").write_text(DATE)
        (bin_ / "date").chmod(0o755)
        self.path = f"{bin_}:{userland.path}"

    def __call__(self, starts: int, told: str | None) -> tuple[int, str]:
        """Return the clock afterwards, and what the script said."""
        self.clock.write_text(f"{starts}\n")
        if told is not None:
            self.run.write_text(told)
        done = subprocess.run(
            [*self.userland.shell, "-s", "--", str(self.run)],
            env={"PATH": self.path, "CLOCK": str(self.clock)},
            input=SCRIPT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "")
        return int(self.clock.read_text()), done.stderr


def run_json(time: object) -> str:
    return f'{{\n"run_id": "run-1",\n"time": {time},\n"hostname": "cottage"\n}}\n'


@pytest.mark.parametrize(
    ("starts", "told", "ends"),
    [
        (EPOCH, NOW, NOW),
        (BEHIND, NOW, NOW),
        (NOW - 5, NOW, NOW),
        (NOW - 9 * 31557600, NOW, NOW),
        (NOW, NOW, NOW),
        (NOW + 60, NOW, NOW + 60),
        (NOW, EPOCH, NOW),
        (EPOCH, 86400, 86400),
    ],
)
def test_the_clock_goes_forward_and_never_back(set_clock: Clock, starts: int, told: int, ends: int) -> None:
    now, said = set_clock(starts, run_json(told))
    assert now == ends
    assert bool(said) is (starts != ends)


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        (EPOCH, 4102444800),
        (EPOCH, 99999999999),
        (NOW, NOW + 11 * 31557600),
        (NOW - 86400, 3000000000),
        (EPOCH, 18446744073709551615),
        (EPOCH, -1),
        (EPOCH, "1790000000.5"),
        (EPOCH, "01790000000"),
        (EPOCH, '"1790000000"'),
        (EPOCH, "null"),
        (EPOCH, "$(reboot)"),
        (EPOCH, "1790000000 1"),
        (EPOCH, "0x6ab13880"),
    ],
)
def test_a_time_without_sense_is_ignored_with_a_line(set_clock: Clock, starts: int, told: object) -> None:
    now, said = set_clock(starts, run_json(told))
    assert now == starts
    assert said.startswith("set-clock: the time that was handed over is ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("told", [None, "", "{}\n", '{\n"run_id": "run-1"\n}\n', "\0" * 9000])
def test_without_a_time_nothing_happens(set_clock: Clock, told: str | None) -> None:
    assert set_clock(EPOCH, told) == (EPOCH, "")
