"""Every Nix file of this repository parses and is formatted."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.nix.evaluator import ROOT, Nix

FOLDERS = ("nix", "lab/final", "holdfast/nixcli", "tests/nix")
FILES = [ROOT / "flake.nix", *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.nix"))]
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_file_is_tidy(path: Path) -> None:
    text = path.read_text()
    assert "\t" not in text
    assert text.endswith("\n") and not text.endswith("\n\n")
    for line in text.splitlines():
        assert line == line.rstrip()


def test_files_parse(nix: Nix) -> None:
    listed = " ".join(str(path) for path in FILES)
    assert nix.evaluate(f"map (file: builtins.isString (builtins.typeOf (import file))) [ {listed} ]") == [True] * len(
        FILES
    )


def test_files_are_formatted() -> None:
    nixfmt = shutil.which("nixfmt")
    if nixfmt is None:
        pytest.skip("there is no nixfmt on PATH")
    done = subprocess.run([nixfmt, "--check", *FILES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
