"""The lock on a target over a real link. The script gets another root, so the machine's /run is not touched."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.base.settings import script
from holdfast.ssh.connection import Connection
from holdfast.target import lock

RUNS = ("0b7e6a52-3f7e-4a3e-9d0c-000000000001", "0b7e6a52-3f7e-4a3e-9d0c-000000000002")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/uptime").write_text("100.00 1.00\n")
    text = script("any/lock.sh")
    changed = text.replace("root=${HOLDFAST_ROOT:-}", f"root={tmp_path}")
    assert changed != text
    monkeypatch.setattr(lock, "script", {"any/lock.sh": changed}.__getitem__)
    return tmp_path


def test_taken_refused_and_taken_over(target: Connection, root: Path) -> None:
    ours, theirs = RUNS
    lock.check(target, theirs, lambda _run: False, mark=None)
    assert lock.hold(target, ours, lambda _run: False, mark=None) == ""
    with pytest.raises(TargetRefused, match=f"another run works on cottage: run {ours} holds the lock since"):
        lock.hold(target, theirs, lambda _run: False, mark=None)
    assert f"from run {ours}, which has ended" in lock.hold(target, theirs, lambda run: run == ours, mark=None)
    with pytest.raises(TargetRefused, match=theirs):
        lock.check(target, ours, lambda _run: None, mark=None)
    (root / "run/holdfast/lock.json").write_text("?")
    with pytest.raises(UnexpectedState, match="is not a valid lock of Holdfast"):
        lock.hold(target, theirs, lambda _run: True, mark=None)


def test_login_that_talks(target: Connection, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert root.is_dir()
    talk = SimpleNamespace(stdout="Welcome!\n{}")
    monkeypatch.setattr(target, "run_script", lambda *_args, **_options: talk)
    with pytest.raises(UnexpectedState, match="gave an invalid answer about its lock"):
        lock.check(target, RUNS[0], lambda _run: True, mark=None)
