"""Settings of the inventory's `nix_options`, with a real nix: it obeys them when it locks, evaluates and builds."""

from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed
from holdfast.inventory.host import Host
from holdfast.nixcli.flake import build_system, kexec_image
from holdfast.nixcli.kept import evaluation_of, lock_of
from tests.nix.test_locking import a_dirty_tree, a_path, operator, store  # noqa: F401  fixtures
from tests.unit.cases import host


def cottage(reference: str, **options: object) -> Host:
    return host(flake=reference, attribute="web.example.org", nix_options=options)


def test_locks(tmp_path: Path) -> None:
    reference = a_dirty_tree(tmp_path / "flakes")
    strict = cottage(reference, **{"allow-dirty": False})
    with pytest.raises(CommandFailed, match="is dirty"):
        lock_of(tmp_path, reference, options=strict.nix_options)
    assert lock_of(tmp_path, reference).source


def test_evaluates(tmp_path: Path) -> None:
    reference = a_path(tmp_path / "flakes")
    lock_of(tmp_path, reference)
    (tmp_path / "flakes" / "text").unlink()
    few = cottage(reference, **{"max-call-depth": 1})
    with pytest.raises(CommandFailed, match="stack overflow"):
        evaluation_of(tmp_path, few)
    assert evaluation_of(tmp_path, cottage(reference)).disks["main"].device == "/dev/old"


def test_builds(tmp_path: Path) -> None:
    asked = cottage(a_path(tmp_path / "flakes"))
    system = evaluation_of(tmp_path, asked).system
    no_jobs = {"max-jobs": 0, "builders": "", "substituters": ""}
    with pytest.raises(CommandFailed):
        build_system(system, cottage(asked.flake, **no_jobs), tmp_path)
    image = host(kexec=f"{asked.flake}#image", nix_options=no_jobs)
    with pytest.raises(CommandFailed):
        kexec_image(image, lock_of(tmp_path, asked.flake), tmp_path)
    assert build_system(system, asked, tmp_path) > 0
