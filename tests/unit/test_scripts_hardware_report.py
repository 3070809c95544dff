"""The script that makes a hardware report, with programs that say how they were called."""

import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import PROJECT
from tests.unit.conftest import Userland

SCRIPT = PROJECT / "nix/scripts/any/hardware-report.sh"
TOOLS: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("nixos-generate-config", "nixos-generate-config --show-hardware-config --no-filesystems\n"),
        ("nixos-facter", "nixos-facter\n"),
    ],
)
def test_program_is_called_if_it_is_there(userland: Userland, tmp_path: Path, program: str, said: str) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        command = [*userland.shell, str(SCRIPT), program]
        env = {"PATH": f"{tmp_path}:{userland.path}"}
        return subprocess.run(command, capture_output=True, text=True, env=env, check=False)

    assert (run().returncode, run().stdout) == (69, "")
    (tmp_path / program).write_text(f'#!/bin/sh\necho {program} "$@"\n')
    (tmp_path / program).chmod(0o755)
    assert (run().returncode, run().stdout) == (0, said)
    (tmp_path / program).write_text("#!/bin/sh\nexit 3\n")
    assert run().returncode == 3
