"""A state archive from the vault over SSH: on standard input, so that no other file of the target holds it."""

import os
from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed
from holdfast.base.settings import script
from holdfast.ssh.connection import Connection
from tests.ssh.sshd import Sshd
from tests.ssh.test_state import ARCHIVE, POISON

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the state is root's")


def put(target: Connection, root: Path, archive: bytes) -> str:
    command = ["sh", "-c", script("any/restore-state.sh"), "restore-state.sh"]
    shown = target.run(["env", f"HOLDFAST_ROOT={root}", *command, "show"], timeout_s=30).stdout.split()
    command += ["20260601T120000Z", *shown]
    return target.run(["env", f"HOLDFAST_ROOT={root}", *command], stdin=archive, timeout_s=30).stdout


@pytest.fixture
def root(tmp_path: Path, server: Sshd) -> Path:
    (server.bin / "systemctl").write_text("#!/bin/sh\n")
    (server.bin / "systemctl").chmod(0o755)
    folder = tmp_path / "root/var/lib/tailscale"
    folder.mkdir(parents=True)
    (folder / "tailscaled.state").write_text("own")
    return tmp_path / "root"


def test_state_is_roots_alone_and_nowhere_else(target: Connection, root: Path, server: Sshd) -> None:
    assert put(target, root, ARCHIVE) == "/var/lib/tailscale.before-restore-20260601T120000Z\n"
    found = [path for path in root.parent.rglob("*") if path.is_file() and POISON in path.read_bytes()]
    assert found == [root / "var/lib/tailscale/tailscaled.state"]
    folder = root / "var/lib/tailscale"
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (folder, *folder.rglob("*"))} == {(0, 0)}
    assert b"poison" not in server.log.read_bytes()


def test_half_an_archive_changes_nothing(target: Connection, root: Path) -> None:
    with pytest.raises(CommandFailed, match="the archive is damaged") as error:
        put(target, root, ARCHIVE[: len(ARCHIVE) // 2])
    assert len(str(error.value)) < 500
    assert [path.name for path in (root / "var/lib").iterdir()] == ["tailscale"]
