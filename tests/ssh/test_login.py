"""Which key was accepted: the final system must know it."""

import dataclasses
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from holdfast.inventory.host import Host
from holdfast.plan.plan import Login
from holdfast.ssh.connection import Connection, open_connection
from holdfast.ssh.endpoint import Endpoint, Jump, Proxy, ProxyCommand, Socks5
from holdfast.ssh.keys import Offer
from holdfast.ssh.link import Link
from holdfast.ssh.login import LoggedIn
from holdfast.ssh.publickey import parse_line
from holdfast.ssh.reach import login_of, reached
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
                # What the installer gets, which knows no authority.
                seen = reached(target, Host(name="cottage"))
                assert (seen.method, seen.keys) == ("certificate", (public(key),))
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


BASTION = Endpoint(host="bastion", address="192.0.2.9", user="me", port=2222, pins=Path("/nowhere"))


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        (None, ""),
        (Socks5("localhost", 1055), "by the SOCKS5 proxy localhost, port 1055"),
        (ProxyCommand(("tailscale", "nc", "%h", "%p")), "by a command (tailscale)"),
        (ProxyCommand(("sh", "-c", "exec cloudflared --token SECRET")), "by a command (cloudflared)"),
        (Jump(BASTION), "by the jump host me@192.0.2.9, port 2222"),
        (
            Jump(dataclasses.replace(BASTION, proxy=Socks5("localhost", 1))),
            "by the jump host me@192.0.2.9, port 2222, by the SOCKS5 proxy localhost, port 1",
        ),
    ],
)
def test_what_carries_a_connection_is_named_without_its_words(proxy: Proxy | None, said: str) -> None:
    endpoint = dataclasses.replace(BASTION, proxy=proxy)
    link = SimpleNamespace(endpoint=endpoint, host_key="ssh-ed25519 AAAA", logged_in=LoggedIn())
    seen = reached(Connection(cast("Link", link)), Host(name="cottage"))
    assert (seen.through, seen.method, seen.keys) == (said, "no key", ())


def test_login_without_a_key_names_those_that_would_have_been_offered(server: Sshd, tmp_path: Path) -> None:
    key, other = make_key(tmp_path / "id"), make_key(tmp_path / "other")
    blobs = [parse_line(public(one)) for one in (key, other, key)]
    logged_in = LoggedIn(unused=tuple(Offer("x", blob, lambda *_: b"") for blob in blobs if blob))
    link = SimpleNamespace(endpoint=BASTION, host_key=public(server.host_key), logged_in=logged_in)
    of_inventory = make_key(tmp_path / "own")
    seen = reached(Connection(cast("Link", link)), Host(name="cottage", identity_file=of_inventory))
    assert seen.keys == (public(of_inventory), public(key), public(other))
