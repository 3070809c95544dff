"""A user's file over a real sshd: whole, with owner and mode, and in no log."""

import os
from pathlib import Path

import pytest

from holdfast.inventory.secret import ExtraFile
from holdfast.ssh.connection import Connection
from holdfast.target.secrets import put_file
from tests.ssh.sshd import Sshd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the new root is root's")

POISON = b"poison-of-the-user\0\xff\n"


def test_file_arrives_whole_and_is_nowhere_else(target: Connection, tmp_path: Path, server: Sshd) -> None:
    source, root = tmp_path / "source", tmp_path / "mnt"
    root.mkdir()
    content = POISON + os.urandom(2_000_000)
    source.write_bytes(content)
    wanted = {"path": "/var/lib/it's $HOME/token", "from": source, "owner": "812:813", "mode": "0440"}
    put_file(target, ExtraFile.model_validate(wanted), str(root), names_known=True, timeout_s=60)
    place = root / "var/lib/it's $HOME/token"
    assert place.read_bytes() == content
    status = place.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (812, 813, 0o440)
    assert {path for path in tmp_path.rglob("*") if path.is_file() and POISON in path.read_bytes()} == {place, source}
    assert POISON not in server.log.read_bytes()
