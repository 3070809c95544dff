"""The lab's cache: what is built once, and what a build that was killed has left."""

from pathlib import Path

import pytest

from lab import cache


def test_what_a_killed_build_left_is_removed_and_other_locks_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "cache_dir", lambda: tmp_path)
    (tmp_path / ".inputs-abcd1234").mkdir()
    (tmp_path / ".inputs-zfs.lock").touch()  # as long as a folder's name
    made = cache.cached("inputs", ["a part"], lambda into: (into / "made").touch())
    assert (made / "made").is_file()
    assert not (tmp_path / ".inputs-abcd1234").exists()
    assert (tmp_path / ".inputs-zfs.lock").is_file()
