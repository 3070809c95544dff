"""leave-installer.sh: the next kernel begins with a hardware clock that is right."""

import os
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import script

NOW = 1790000000
DAY = 86400
SCRIPT = script("installer/leave-installer.sh")


class Installer:
    """An installer whose programs take notes."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.shell, self.tools, self.calls, self.live = shell, folder / "tools", folder / "calls", folder / "live"
        self.tools.mkdir()
        self.calls.touch()
        self.tool("mountpoint", "exit 1")
        self.tool("date", f"echo {NOW}")
        for name in ("sync", "swapoff", "hwclock", "systemd-run"):
            self.tool(name, f'echo "{name} $*" >>{self.calls}')

    def tool(self, name: str, body: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.tools / name).chmod(0o755)

    def leave(self, rtc: str | None) -> tuple[list[str], str]:
        """Return what was called, and what the script said."""
        if rtc is not None:
            (self.live / "sys/class/rtc/rtc0").mkdir(parents=True)
            (self.live / "sys/class/rtc/rtc0/since_epoch").write_text(f"{rtc}\n")
        done = subprocess.run(
            [*self.shell, "-s", "--", "/mnt", "kexec"],
            env={"PATH": f"{self.tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(self.live)},
            input=SCRIPT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "")
        return self.calls.read_text().splitlines(), done.stderr


@pytest.fixture
def installer(shell: list[str], tmp_path: Path) -> Installer:
    return Installer(tmp_path, shell)


@pytest.mark.parametrize(
    ("rtc", "is_set"),
    [
        (NOW - 3 * 365 * DAY, True),
        (0, True),
        (NOW - DAY - 1, True),
        (NOW - DAY + 3600, False),  # a local time, west of Greenwich
        (NOW, False),
        (NOW + 14 * 3600, False),
        (None, False),
    ],
)
def test_hardware_clock_is_set_if_it_is_behind(installer: Installer, rtc: int | None, is_set: bool) -> None:
    calls, _ = installer.leave(None if rtc is None else str(rtc))
    assert ("hwclock -w -u" in calls) is is_set
    assert calls[-1] == "systemd-run --quiet --on-active=2s systemctl kexec"


def test_hardware_clock_that_cannot_be_set_stops_nothing(installer: Installer) -> None:
    installer.tool("hwclock", "exit 1")
    calls, said = installer.leave("0")
    assert said == "leave-installer: the hardware clock is behind, and could not be set\n"
    assert calls[-1] == "systemd-run --quiet --on-active=2s systemctl kexec"
