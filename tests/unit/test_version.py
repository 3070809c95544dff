"""The version stands in pyproject.toml for tools, and in the package for the report: one and the same."""

import tomllib
from pathlib import Path

from holdfast import __version__


def test_both_versions_are_the_same() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
