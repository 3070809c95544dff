"""The lab's lists of packages and files, and that a changed list builds anew what is made from it."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from holdfast.base.settings import PROJECT
from lab import final, image, origin, systemd, toolchain, zfs
from lab.cache import Part, digest
from lab.lists import entries

LISTS = sorted(path for folder in ("", "image", "final", "zfs") for path in (PROJECT / "lab" / folder).glob("*.txt"))


def test_comments_and_empty_lines_are_no_entries(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# why\nfirst\n\n  # why not\n second \nthird # not a comment\n")
    assert entries(path) == ("first", "second", "third # not a comment")


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_list_says_what_it_is_and_names_nothing_twice(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert len(entries(path)) == len(set(entries(path))) > 0


def test_digest_of_a_list_is_that_of_its_entries(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("one\ntwo\n")
    before = digest([entries(path), ("three",)])
    path.write_text("# a comment\none\n\ntwo\n")
    assert digest([entries(path), ("three",)]) == before
    assert digest([("one", "two", "three"), ()]) != before
    assert digest([("one",), ("two", "three")]) != before
    assert digest([("one", "two"), ("four",)]) != before


def key_of(monkeypatch: pytest.MonkeyPatch, module: ModuleType, make: Callable[[], Path]) -> str:
    """Return the cache's key of what a function would build last."""
    keys: list[str] = []

    def built(_kind: str, parts: Sequence[Part], _build: Callable[[Path], None], *, about: str) -> Path:
        assert about
        keys.append(digest(parts))
        return Path("/nowhere") / keys[-1]

    for place in {module, toolchain}:
        monkeypatch.setattr(place, "built", built, raising=False)
    make()
    return keys[-1]


@pytest.mark.parametrize(
    ("module", "make", "place", "name"),
    [
        *((image, image.image_folder, image, name) for name in ("PACKAGES", "MODULES", "DROPPED", "WANTS")),
        *((final, final.inputs, final, name) for name in ("PACKAGES", "PROGRAMS", "LIBRARIES", "FILES", "UNITS")),
        (final, final.inputs, final, "MODULES"),
        (image, image.image_folder, systemd, "UDEV_RULES"),
        (final, final.inputs, systemd, "UDEV_RULES"),
        (origin, origin.debian_tree, origin, "PACKAGES"),
        (origin, origin.disk, origin, "MASKED"),
        (toolchain, toolchain.qemu, toolchain, "TREE_PACKAGES"),
        (zfs, partial(zfs.for_kernel, "6.12", "trixie"), zfs, "PACKAGES"),
        (image, partial(image.image_folder, with_zfs=True), zfs, "PACKAGES"),
        (final, partial(final.inputs, with_zfs=True), zfs, "PACKAGES"),
    ],
)
def test_changed_list_changes_the_key(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, make: Callable[[], Path], place: ModuleType, name: str
) -> None:
    before = key_of(monkeypatch, module, make)
    assert key_of(monkeypatch, module, make) == before
    monkeypatch.setattr(place, name, (*getattr(place, name), "another"))
    assert key_of(monkeypatch, module, make) != before


@pytest.mark.parametrize(("module", "make"), [(image, image.image_folder), (final, final.inputs)])
def test_only_what_has_zfs_is_built_with_it(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, make: Callable[..., Path]
) -> None:
    # Its kernel modules take longer to build than all else.
    plain = key_of(monkeypatch, module, make)
    assert key_of(monkeypatch, module, partial(make, with_zfs=True)) != plain
    monkeypatch.setattr(zfs, "PACKAGES", (*zfs.PACKAGES, "another"))
    assert key_of(monkeypatch, module, make) == plain
