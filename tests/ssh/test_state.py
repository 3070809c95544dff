"""A state archive into the new root: over standard input, for root only, and whole or not at all."""

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed
from holdfast.ssh.connection import Connection
from holdfast.target.state import put_state
from tests.ssh.sshd import Sshd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the new root is root's")

TIMEOUT_S = 30
SYSTEM = "/nix/store/00000000000000000000000000000000-nixos-system"
POISON = b'{"privkey": "poison-of-the-state"}'


def archive_of(files: dict[str, bytes], *, mode: int = 0o755) -> bytes:
    """Return a tar.gz as tar makes it of /var/lib/tailscale, with another owner and readable by all."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in {".": None, "./certs": None, **files}.items():
            info = tarfile.TarInfo(name)
            info.uid = info.gid = 1234
            info.mode = mode
            if content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


ARCHIVE = archive_of({"./tailscaled.state": POISON, "./certs/a.crt": b"cert"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "mnt"
    (made / SYSTEM[1:]).mkdir(parents=True)
    return made


def persistent(root: Path, content: str) -> Path:
    file = root / SYSTEM[1:] / "holdfast-persistent-root"
    file.write_text(content)
    return file


def test_state_is_roots_alone(target: Connection, root: Path) -> None:
    put_state(target, ARCHIVE, str(root), SYSTEM, timeout_s=TIMEOUT_S)
    folder = root / "var/lib/tailscale"
    assert (folder / "tailscaled.state").read_bytes() == POISON
    modes = {path.relative_to(folder).as_posix(): path.stat().st_mode & 0o7777 for path in folder.rglob("*")}
    assert modes == {"tailscaled.state": 0o600, "certs": 0o700, "certs/a.crt": 0o600}
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert folder.parent.stat().st_mode & 0o7777 == 0o755
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (folder, *folder.rglob("*"))} == {(0, 0)}
    assert [path.name for path in folder.parent.iterdir()] == ["tailscale"]


def test_folder_of_its_own_wins_over_the_persistent_root(target: Connection, root: Path) -> None:
    persistent(root, "/elsewhere\n")
    put_state(target, ARCHIVE, str(root), SYSTEM, "/persist/var/lib/tailscale", timeout_s=TIMEOUT_S)
    assert (root / "persist/var/lib/tailscale/tailscaled.state").read_bytes() == POISON
    assert not (root / "elsewhere").exists()
    with pytest.raises(CommandFailed, match="is not the path of a folder"):
        put_state(target, ARCHIVE, str(root), SYSTEM, "/../outside", timeout_s=TIMEOUT_S)


def test_archive_is_nowhere_else(target: Connection, root: Path, server: Sshd) -> None:
    put_state(target, ARCHIVE, str(root), SYSTEM, timeout_s=TIMEOUT_S)
    found = [path for path in root.parent.rglob("*") if path.is_file() and POISON in path.read_bytes()]
    assert found == [root / "var/lib/tailscale/tailscaled.state"]
    assert b"poison" not in server.log.read_bytes()


@pytest.mark.parametrize(
    ("content", "place"), [("/persist\n", "persist/"), ("/a/b.c-d/\n", "a/b.c-d/"), ("/\n", ""), ("", "")]
)
def test_state_goes_where_the_system_keeps_it(target: Connection, root: Path, content: str, place: str) -> None:
    persistent(root, content)
    put_state(target, ARCHIVE, str(root), SYSTEM, timeout_s=TIMEOUT_S)
    assert list(root.rglob("tailscaled.state")) == [root / f"{place}var/lib/tailscale/tailscaled.state"]


@pytest.mark.parametrize("content", ["persist", "/a/../../b", "/..", "/a//b", "/a b", "/a\n/b", "/$(id)"])
def test_no_path_leads_out(target: Connection, root: Path, content: str) -> None:
    persistent(root, content)
    with pytest.raises(CommandFailed, match="does not hold an absolute path"):
        put_state(target, ARCHIVE, str(root), SYSTEM, timeout_s=TIMEOUT_S)
    assert not list(root.parent.rglob("tailscale*"))


def test_link_is_not_followed(target: Connection, root: Path, tmp_path: Path) -> None:
    persistent(root, "").unlink()
    (tmp_path / "elsewhere").write_text("/persist\n")
    (root / SYSTEM[1:] / "holdfast-persistent-root").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CommandFailed, match="not a regular file"):
        put_state(target, ARCHIVE, str(root), SYSTEM, timeout_s=TIMEOUT_S)


def test_it_can_be_repeated(target: Connection, root: Path) -> None:
    folder = root / "var/lib/tailscale"
    put_state(target, archive_of({"./tailscaled.state": b"old", "./old": b""}), str(root), SYSTEM, timeout_s=TIMEOUT_S)
    (root / "var/lib/tailscale.holdfast-new").mkdir()
    put_state(target, ARCHIVE, str(root), SYSTEM, timeout_s=TIMEOUT_S)
    assert sorted(path.name for path in folder.iterdir()) == ["certs", "tailscaled.state"]
    assert [path.name for path in folder.parent.iterdir()] == ["tailscale"]


def test_folder_that_is_a_file_system_of_its_own_stays_one(target: Connection, root: Path) -> None:
    folder = root / "var/lib/tailscale"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(folder)], check=True)
    try:
        (folder / "old").touch()
        for _ in range(2):
            put_state(target, ARCHIVE, str(root), SYSTEM, timeout_s=TIMEOUT_S)
        assert folder.is_mount()
        assert sorted(path.name for path in folder.iterdir()) == ["certs", "tailscaled.state"]
        assert folder.stat().st_mode & 0o7777 == 0o700
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"no archive",
        ARCHIVE[: len(ARCHIVE) // 2],
        gzip.compress(gzip.decompress(ARCHIVE)[:700]),
        archive_of({"./other": b"x"}),
        archive_of({"./tailscaled.state": b""}),
    ],
)
def test_what_was_there_stays_if_the_archive_is_broken(target: Connection, root: Path, broken: bytes) -> None:
    folder = root / "var/lib/tailscale"
    folder.mkdir(parents=True)
    (folder / "tailscaled.state").write_bytes(b"before")
    with pytest.raises(CommandFailed) as error:
        put_state(target, broken, str(root), SYSTEM, timeout_s=TIMEOUT_S)
    assert "poison" not in str(error.value)
    assert (folder / "tailscaled.state").read_bytes() == b"before"
    assert [path.name for path in folder.parent.iterdir()] == ["tailscale"]
