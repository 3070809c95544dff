import json
import os
from pathlib import Path

import pytest

from lab.nix import nix_wrapper


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
