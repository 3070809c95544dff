import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.model.errors import CommandFailed, ConnectionLost, DeadlinePassed, NotTrusted
from tasks.remote.connection import Connection, connect
from tasks.remote.endpoint import Endpoint
from tests.ssh.sshd import Sshd

T = 60
SIZE = 6_000_000


@pytest.fixture
def local(tmp_path: Path) -> Path:
    file = tmp_path / "image"
    file.write_bytes(random.Random(3).randbytes(SIZE))
    return file


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there" / "the image"


@contextlib.contextmanager
def receiver(server: Sshd, script: str) -> Iterator[None]:
    """Let something else than `cat` store what arrives."""
    stand_in = server.bin / "cat"
    # Start-up files of the login's shell may use `cat` too.
    stand_in.write_text(
        f'#!/bin/sh\ncase $(readlink /proc/$$/fd/1) in *.part) {script} ;; *) exec /bin/cat "$@" ;; esac\n'
    )
    stand_in.chmod(0o755)
    try:
        yield
    finally:
        stand_in.unlink()


def sent(progress: list[tuple[int, int]]) -> int:
    """Bytes that went over the wire in this upload."""
    return progress[-1][0] - progress[0][0]


def upload(target: Connection, local: Path, remote: Path) -> list[tuple[int, int]]:
    progress: list[tuple[int, int]] = []
    target.upload(local, str(remote), timeout_s=T, on_progress=lambda done, total: progress.append((done, total)))
    return progress


def test_content_mode_and_progress(target: Connection, local: Path, remote: Path) -> None:
    progress = upload(target, local, remote)
    assert remote.read_bytes() == local.read_bytes()
    assert remote.stat().st_mode & 0o777 == 0o600
    assert progress[0] == (0, SIZE)
    assert progress[-1] == (SIZE, SIZE)
    assert [name.name for name in remote.parent.iterdir()] == [remote.name]


def test_content_that_is_there_is_not_sent_again(target: Connection, local: Path, remote: Path) -> None:
    upload(target, local, remote)
    assert upload(target, local, remote) == [(SIZE, SIZE)]


def test_other_content_of_the_same_size_is_replaced(target: Connection, local: Path, remote: Path) -> None:
    remote.write_bytes(b"x" * SIZE)
    assert sent(upload(target, local, remote)) == SIZE
    assert remote.read_bytes() == local.read_bytes()


def test_empty_file(target: Connection, tmp_path: Path, remote: Path) -> None:
    (tmp_path / "empty").touch()
    upload(target, tmp_path / "empty", remote)
    assert remote.read_bytes() == b""


def test_goes_on_after_a_cut(endpoint: Endpoint, server: Sshd, local: Path, remote: Path) -> None:
    part = remote.with_name(remote.name + ".part")
    # Takes half of the file, and then no more until the link is cut.
    script = f"head -c {SIZE // 2}; exec sleep 1000"

    def cut_at_half() -> None:
        while not part.exists() or part.stat().st_size < SIZE // 2:
            time.sleep(0.02)
        server.cut()

    threading.Thread(target=cut_at_half, daemon=True).start()
    with (
        receiver(server, script),
        connect(endpoint, timeout_s=T) as target,
        pytest.raises(ConnectionLost),
    ):
        upload(target, local, remote)
    assert part.stat().st_size == SIZE // 2
    with connect(endpoint, timeout_s=T) as target:
        progress = upload(target, local, remote)
    assert (progress[0], progress[-1]) == ((SIZE // 2, SIZE), (SIZE, SIZE))
    assert remote.read_bytes() == local.read_bytes()
    assert not part.exists()


def test_damaged_part_is_not_used(target: Connection, local: Path, remote: Path) -> None:
    part = remote.with_name(remote.name + ".part")
    damaged = bytearray(local.read_bytes()[:3_000_000])
    damaged[1_000_000] ^= 1
    part.write_bytes(damaged)
    assert sent(upload(target, local, remote)) == SIZE
    assert remote.read_bytes() == local.read_bytes()


def test_part_of_a_longer_file_is_not_used(target: Connection, local: Path, remote: Path) -> None:
    remote.with_name(remote.name + ".part").write_bytes(local.read_bytes() + b"more")
    assert sent(upload(target, local, remote)) == SIZE
    assert remote.read_bytes() == local.read_bytes()


def test_whole_part_needs_only_its_name(target: Connection, local: Path, remote: Path) -> None:
    remote.with_name(remote.name + ".part").write_bytes(local.read_bytes())
    assert sent(upload(target, local, remote)) == 0
    assert remote.read_bytes() == local.read_bytes()


def test_content_that_arrives_damaged_is_refused(target: Connection, server: Sshd, local: Path, remote: Path) -> None:
    with receiver(server, "tr a b"), pytest.raises(NotTrusted, match="with another sha256"):
        upload(target, local, remote)
    assert list(remote.parent.iterdir()) == []


def test_folder_that_is_not_there(target: Connection, local: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="nope"):
        upload(target, local, tmp_path / "nope" / "image")


def test_deadline(target: Connection, local: Path, server: Sshd, remote: Path) -> None:
    with receiver(server, "exec sleep 1000"), pytest.raises(DeadlinePassed):
        target.upload(local, str(remote), timeout_s=2)
