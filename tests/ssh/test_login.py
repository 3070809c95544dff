"""Which key was accepted: the final system must know it."""

import dataclasses
import subprocess
from pathlib import Path

from holdfast.inventory.host import Host
from holdfast.plan.plan import Login
from holdfast.ssh.connection import Connection, open_connection
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.reach import login_of
from tests.ssh.sshd import Sshd, make_key, public

TIMEOUT_S = 20


def test_key_of_a_file(target: Connection, server: Sshd) -> None:
    assert target.login_key == public(server.client_key)


def test_only_the_key_that_was_accepted(endpoint: Endpoint, server: Sshd, tmp_path: Path) -> None:
    both = dataclasses.replace(endpoint, identity_files=(make_key(tmp_path / "wrong"), server.client_key))
    with open_connection(both, timeout_s=TIMEOUT_S) as target:
        assert login_of(target, Host(name="cottage")) == Login(
            user=endpoint.user, port=server.port, key=public(server.client_key)
        )


def test_a_certificate_says_nothing_about_keys(server: Sshd, endpoint: Endpoint, tmp_path: Path) -> None:
    authority, key = make_key(tmp_path / "ca"), make_key(tmp_path / "certified")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", "-n", endpoint.user, str(key.with_suffix(".pub"))]
    subprocess.run(sign, check=True)
    keys = server.folder / "authorized_keys"
    before = keys.read_text()
    keys.write_text(f"cert-authority {public(authority)}\n")
    try:
        for named in (key, tmp_path / "certified-cert.pub"):
            with open_connection(dataclasses.replace(endpoint, identity_files=(named,)), timeout_s=TIMEOUT_S) as target:
                assert target.login_key == ""
    finally:
        keys.write_text(before)


def test_file_beside_the_inventorys_key_if_no_key_was_asked_for(
    target: Connection, server: Sshd, tmp_path: Path
) -> None:
    target.login_key = ""
    host = Host(name="cottage", identity_file=server.client_key)
    assert login_of(target, host).key == public(server.client_key)
    assert login_of(target, Host(name="cottage", identity_file=tmp_path / "absent")).key == ""
    (tmp_path / "odd").write_text("x")
    (tmp_path / "odd.pub").write_bytes(b"\xff no key")
    assert login_of(target, Host(name="cottage", identity_file=tmp_path / "odd")).key == ""
