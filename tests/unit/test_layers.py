"""Imports run down, and no phase knows another: the contracts in pyproject.toml, and what they cannot say."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.base.settings import PROJECT

PHASES = sorted((PROJECT / "tasks").glob("*.py"))
GLUE = sorted((PROJECT / "tasks" / "run").glob("*.py"))


def imported(file: Path) -> set[str]:
    """Return the modules of `tasks` that a file imports; a name that is imported from the package is a module, too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import(names=names):
                found |= {name.name for name in names}
            case ast.ImportFrom(module="tasks", names=names):
                found |= {f"tasks.{name.name}" for name in names}
            case ast.ImportFrom(module=str(module)):
                found.add(module)
    return {module for module in found if module.split(".")[0] == "tasks"}


def test_contracts_are_kept() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("file", [*PHASES, *GLUE], ids=lambda file: file.relative_to(PROJECT).as_posix())
def test_phases_meet_in_the_flow_only(file: Path) -> None:
    assert not {module for module in imported(file) if not module.startswith("tasks.run")}
