import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.nix import nix_wrapper
from tests.unit.prefs_installer import jq_folder


@dataclass(frozen=True)
class Userland:
    """What a script finds on a target: its shell, and the PATH of its tools."""

    shell: list[str]
    path: str


@pytest.fixture(params=["dash", "busybox sh"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    """Each shell that a target may have."""
    argv: list[str] = request.param.split()
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {argv[0]} here")
    return argv


@pytest.fixture(params=["dash", "busybox sh", "busybox"])
def userland(request: pytest.FixtureRequest, tmp_path: Path) -> Userland:
    """Dash or busybox' shell with the tools of this machine, and one of busybox' tools alone: TOOLS of the module."""
    argv = request.param.split()
    found = shutil.which(argv[0]) or pytest.skip(f"no {argv[0]} here")
    if request.param != "busybox":
        return Userland(argv, os.environ["PATH"])
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in request.module.TOOLS:
        (folder / name).symlink_to(found)
    return Userland([found, "sh"], str(folder))


@pytest.fixture(scope="session")
def new_jq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH with a jq that keeps large numbers."""
    return jq_folder(tmp_path_factory.mktemp("tools"))


@pytest.fixture(scope="session")
def nix_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the store of `real_nix` is, as `nix/store`."""
    return tmp_path_factory.mktemp("nix")


@pytest.fixture
def real_nix(nix_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let Holdfast use the lab's Nix, with a store of its own, and return that store's folder."""
    if os.geteuid() != 0:
        pytest.skip("the lab's nix needs root")
    monkeypatch.setenv("HOLDFAST_NIX", json.dumps([str(nix_wrapper(nix_folder) / "nix")]))
    return nix_folder / "nix" / "nix" / "store"
