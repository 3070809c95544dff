"""The lab's layouts of a disk (lab/final/layouts) as Nix reads them, and what the final system mounts of them."""

import configparser
import os
import subprocess
from pathlib import Path

import pytest

from lab.final import FLAKE, LAYOUTS
from tests.lab.matrix.__main__ import LABS
from tests.lab.matrix.table import KINDS
from tests.nix.evaluator import Nix

NAMES = sorted(path.name for path in LAYOUTS.iterdir())
TOOLS = '{ storage = "/t"; zfs = "/t"; }'
UNIT = "systemd/system/boot.mount"


def make_etc(fstab: list[str], folder: Path) -> Path:
    """Run the flake's etc.sh, and return the folder that it makes."""
    keys = folder / "keys"
    keys.touch()
    made = folder / "etc"
    inputs = {"source": f"{FLAKE}/etc", "hostName": "cottage", "authorizedKeys": str(keys), "out": str(made)}
    script = ["sh", "-eu", str(FLAKE / "build/etc.sh")]
    subprocess.run(script, env={"PATH": os.environ["PATH"], "fstab": "\n".join(fstab), **inputs}, check=True)
    return made


@pytest.mark.parametrize("layout", NAMES)
def test_boot_is_mounted_as_fstab_says(nix: Nix, tmp_path: Path, layout: str) -> None:
    fstab = nix.evaluate(f'(import {LAYOUTS}/{layout} {{ disk = "/dev/d"; tools = {TOOLS}; }}).fstab')
    made = make_etc(fstab, tmp_path)
    assert (made / "fstab").read_text().splitlines() == fstab
    wanted = [line.split()[2:4] for line in fstab if line.split()[1] == "/boot"]
    if not wanted:
        assert not (made / UNIT).exists()
        assert not (made / "systemd/system/local-fs.target.wants/boot.mount").is_symlink()
        return
    unit = configparser.ConfigParser()
    unit.read(made / UNIT)
    assert [[unit["Mount"]["Type"], unit["Mount"]["Options"]]] == wanted


def test_each_layout_is_a_row_of_the_matrix_that_one_lab_installs() -> None:
    assert sorted(kind.layout for kind in KINDS) == NAMES
    told = [test.partition("[")[2].rstrip("]") for tests in LABS.values() for test in tests if "[" in test]
    assert sorted(told) == NAMES
