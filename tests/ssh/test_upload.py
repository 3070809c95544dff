import contextlib
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.base.deadline import Deadline
from holdfast.base.errors import CommandFailed, ConnectionLost, DeadlinePassed, NotTrusted
from holdfast.base.settings import script
from holdfast.ssh import upload as uploading
from holdfast.ssh.connection import Connection, open_connection
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.upload import upload_over_links
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
    """Store what arrives with another command than `cat`."""
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
    """Return the bytes that this upload sent."""
    return progress[-1][0] - progress[0][0]


def upload(target: Connection, local: Path, remote: Path) -> list[tuple[int, int]]:
    progress: list[tuple[int, int]] = []
    uploading.upload(
        target,
        local,
        str(remote),
        deadline=Deadline.after(T),
        on_progress=lambda done, total: progress.append((done, total)),
    )
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


def test_resumes_after_a_cut(endpoint: Endpoint, server: Sshd, local: Path, remote: Path) -> None:
    part = remote.with_name(remote.name + ".part")
    # Accepts half of the file, and then nothing until the link is cut.
    script = f"head -c {SIZE // 2}; exec sleep 1000"

    def cut_at_half() -> None:
        while not part.exists() or part.stat().st_size < SIZE // 2:
            time.sleep(0.02)
        server.cut()

    threading.Thread(target=cut_at_half, daemon=True).start()
    with (
        receiver(server, script),
        open_connection(endpoint, timeout_s=T) as target,
        pytest.raises(ConnectionLost),
    ):
        upload(target, local, remote)
    assert part.stat().st_size == SIZE // 2
    with open_connection(endpoint, timeout_s=T) as target:
        progress = upload(target, local, remote)
    assert (progress[0], progress[-1]) == ((SIZE // 2, SIZE), (SIZE, SIZE))
    assert remote.read_bytes() == local.read_bytes()
    assert not part.exists()


def test_resumes_by_itself_over_links_that_break(
    endpoint: Endpoint, server: Sshd, local: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.ssh.upload.RECONNECT_PAUSE_S", 0.1)
    part = remote.with_name(remote.name + ".part")
    links: list[Connection] = []

    def cut_twice() -> None:
        for count in (SIZE // 3, 2 * (SIZE // 3)):
            while not part.exists() or part.stat().st_size < count:
                time.sleep(0.02)
            server.cut()

    def reconnect() -> Connection:
        links.append(open_connection(endpoint, timeout_s=T))
        return links[-1]

    threading.Thread(target=cut_twice, daemon=True).start()
    lines: list[str] = []
    progress: list[tuple[int, int]] = []
    # The first two links carry a third of the file each, and then nothing.
    script = f"head -c {SIZE // 3}; [ $(wc -c <'{part}') -eq {SIZE} ] || exec sleep 1000"
    with receiver(server, script):
        upload_over_links(
            reconnect,
            local,
            str(remote),
            timeout_s=T,
            on_line=lines.append,
            on_progress=lambda done, total: progress.append((done, total)),
        )
    assert remote.read_bytes() == local.read_bytes()
    assert len(links) == 3
    assert len([line for line in lines if "What arrived is kept; reconnecting, for at most " in line]) == 2
    assert (SIZE // 3, SIZE) in progress
    assert (2 * (SIZE // 3), SIZE) in progress


def test_link_that_does_not_come_back(endpoint: Endpoint, server: Sshd, local: Path, remote: Path) -> None:
    def cut() -> None:
        while not remote.with_name(remote.name + ".part").exists():
            time.sleep(0.02)
        server.stop()

    threading.Thread(target=cut, daemon=True).start()
    try:
        with (
            receiver(server, "exec sleep 1000"),
            pytest.raises(DeadlinePassed, match=r"a connection to upload image; last seen"),
        ):
            upload_over_links(
                lambda: open_connection(endpoint, timeout_s=T),
                local,
                str(remote),
                timeout_s=4,
                on_line=lambda _line: None,
            )
    finally:
        server.start()


def test_error_of_the_target_is_not_waited_for(endpoint: Endpoint, local: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="nope"):
        upload_over_links(
            lambda: open_connection(endpoint, timeout_s=T),
            local,
            str(tmp_path / "nope" / "image"),
            timeout_s=T,
            on_line=lambda _line: None,
        )


@pytest.mark.parametrize("shell", ["dash", "busybox"])
@pytest.mark.parametrize("kept", [0, 1, 65535, 65536, 65537, 200_000])
def test_late_bytes_of_a_broken_link_do_no_harm(tmp_path: Path, shell: str, kept: int) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    busybox = shutil.which("busybox") or pytest.skip("there is no busybox")
    for name in ("cat", "dd", "rm"):
        (tools / name).symlink_to(busybox if shell == "busybox" else shutil.which(name) or "")
    argv = ["busybox", "sh"] if shell == "busybox" else ["dash"]
    content = random.Random(5).randbytes(400_000)
    place = tmp_path / "x"
    part = place.with_name("x.part")
    part.write_bytes(content[:kept])

    def receive() -> subprocess.Popen[bytes]:
        command = [
            shutil.which(argv[0]) or "",
            *argv[1:],
            "-c",
            script("any/upload-append.sh"),
            "upload-append.sh",
            str(place),
            str(kept),
        ]
        return subprocess.Popen(command, stdin=subprocess.PIPE, env={"PATH": str(tools)})

    # For the target the old link is still alive when the new one is done.
    old = receive()
    assert old.stdin is not None
    old.stdin.write(content[kept : kept + 50_000])
    old.stdin.flush()
    # Only once it writes: two that begin at the same moment might both remove the part.
    deadline = time.monotonic() + T
    while not (part.exists() and part.stat().st_size == kept + 50_000):
        assert time.monotonic() < deadline, "the old link stored nothing"
        time.sleep(0.01)
    new = receive()
    new.communicate(content[kept:], timeout=T)
    old.communicate(content[kept + 50_000 : kept + 150_000], timeout=T)
    assert (old.returncode, new.returncode) == (0, 0)
    assert part.read_bytes() == content


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
        uploading.upload(target, local, str(remote), deadline=Deadline.after(2), on_progress=None)
