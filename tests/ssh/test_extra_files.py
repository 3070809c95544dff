"""A folder of the user's files over a real sshd, into a new root with links of its own."""

import os
from pathlib import Path

import pytest

from holdfast.base.errors import ConfigError
from holdfast.ssh.connection import Connection
from holdfast.target.extra_files import put_extra_files
from tests.ssh.sshd import Sshd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the new root is root's")

POISON = "poison of the user"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The user's folder: a file, a file that only its owner may read, and a link."""
    folder = tmp_path / "extra"
    (folder / "var/lib/app").mkdir(parents=True)
    (folder / "motd").write_text("hello")
    (folder / "var/lib/app/token").write_text(POISON)
    (folder / "var/lib/app/token").chmod(0o400)
    (folder / "var/lib/app/current").symlink_to("token")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mnt"
    (root / "var").mkdir(parents=True, mode=0o711)
    return root


def test_files_arrive_as_they_are(target: Connection, folder: Path, root: Path, server: Sshd) -> None:
    for _ in range(2):
        assert put_extra_files(target, folder, str(root), timeout_s=60) == 3
    token = root / "var/lib/app/token"
    assert (token.read_text(), token.stat().st_mode & 0o7777, token.stat().st_uid) == (POISON, 0o400, 0)
    assert (root / "var/lib/app/current").readlink() == Path("token")
    assert (root / "motd").read_text() == "hello"
    assert (root / "var").stat().st_mode & 0o777 == 0o711
    assert POISON.encode() not in server.log.read_bytes()


@pytest.mark.parametrize("link", ["var", "var/lib/app"])
def test_no_link_of_the_new_root_leads_out(target: Connection, folder: Path, root: Path, link: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    if link == "var":
        (root / "var").rmdir()
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(outside)
    with pytest.raises(ConfigError, match=f"extra_files: {link} is a link in the final system") as refused:
        put_extra_files(target, folder, str(root), timeout_s=60)
    assert "where the link leads" in refused.value.hint
    assert list(outside.iterdir()) == []
    assert not (root / "motd").exists()


def test_a_link_in_a_files_place_is_replaced(target: Connection, folder: Path, root: Path) -> None:
    outside = root.parent / "outside"
    outside.write_text("mine")
    (root / "motd").symlink_to(outside)
    put_extra_files(target, folder, str(root), timeout_s=60)
    assert (outside.read_text(), (root / "motd").read_text()) == ("mine", "hello")


def test_what_is_not_a_file_is_refused(target: Connection, folder: Path, root: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(ConfigError, match="neither a file"):
        put_extra_files(target, folder, str(root), timeout_s=60)
    assert not (root / "motd").exists()
