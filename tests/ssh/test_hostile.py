"""Hostile servers: whatever they send, the result is one of our errors, in time, and safe to show."""

import contextlib
import dataclasses
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_PARTIALLY_SUCCESSFUL

from holdfast.base.errors import CommandFailed, HoldfastError, LoginRefused, NotTrusted, Unreachable
from holdfast.ssh.connection import open_connection
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.wire import MAX_BYTES_BEFORE_LOGIN
from holdfast.target.look import look
from tests.ssh.sshd import Listener, Sshd, fingerprint, make_key, public

T = 20
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NASTY = "\x1b[2J\x1b]0;owned\x07\u202e\u2028"


@pytest.fixture
def own(client_key: Path, tmp_path: Path) -> Iterator[Sshd]:
    """An sshd for one test, not yet started."""
    tmp_path.chmod(0o755)
    sshd = Sshd(tmp_path, client_key)
    yield sshd
    sshd.stop()


def to(sshd: Sshd, **more: object) -> Endpoint:
    first = Endpoint(
        host="cottage",
        address="127.0.0.1",
        port=sshd.port,
        identity_files=(sshd.client_key,),
        pins=sshd.folder / "state" / "known_hosts",
        allow_first_use=True,
    )
    return dataclasses.replace(first, **more)  # type: ignore[arg-type]


def test_banner_is_only_part_of_a_refusal_escaped_and_short(
    own: Sshd, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    banner = own.folder / "banner"
    banner.write_text(f"{NASTY}\nroot: the machine is yours\n" * 100)
    own.settings = (f"Banner {banner}",)
    own.start()
    with open_connection(to(own), timeout_s=T) as target:
        assert target.run(["echo", "on"], timeout_s=T).stdout == "on\n"
    with pytest.raises(LoginRefused) as refused:
        open_connection(to(own, identity_files=(make_key(own.folder / "other"),)), timeout_s=T)
    seen = capfd.readouterr()
    assert "yours" not in seen.out + seen.err + caplog.text
    assert r"the server says: \x1b[2J" in str(refused.value)
    assert not UNSAFE.search(str(refused.value))
    assert len(refused.value.message) < 800


def test_login_that_prints_before_the_answer(own: Sshd) -> None:
    own.settings = ("""ForceCommand printf 'Welcome \\033[2J\\n{"format"\\n\\n'; eval "$SSH_ORIGINAL_COMMAND" """,)
    own.start()
    with open_connection(to(own), timeout_s=T) as target:
        assert target.run(["echo", "on"], timeout_s=T).stdout.startswith("Welcome \x1b[2J")
        seen = look(target)
    assert seen.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_key_that_changes_between_two_connections_of_a_run(own: Sshd) -> None:
    own.start()
    open_connection(to(own), timeout_s=T).close()
    before = fingerprint(own.host_key)
    own.stop()
    for file in (own.host_key, own.host_key.with_suffix(".pub")):
        file.unlink()
    own.start()
    with pytest.raises(NotTrusted) as refused:
        open_connection(to(own), timeout_s=T)
    assert f"answered with the host key ssh-ed25519 {fingerprint(own.host_key)}" in refused.value.message
    assert f", expected ssh-ed25519 {before}" in refused.value.message


def test_words_of_a_failed_command_are_one_safe_line(own: Sshd) -> None:
    own.start()
    with open_connection(to(own), timeout_s=T) as target, pytest.raises(CommandFailed) as failed:
        target.run(["sh", "-c", 'printf "%s" "$1" >&2; yes y | head -c 300000 >&2; exit 1', "sh", NASTY], timeout_s=T)
    assert not UNSAFE.search(str(failed.value))
    assert len(str(failed.value)) <= 4000


@pytest.mark.parametrize("first", [b"", b"SSH-2.0-x\r\n\x7f\xff\xff\xfc"], ids=["no banner", "one packet"])
def test_endless_words_before_the_login_are_cut_off(endpoint: Endpoint, listener: Listener, first: bytes) -> None:
    sent = 0

    def flood(stream: socket.socket) -> None:
        nonlocal sent
        with contextlib.suppress(OSError):
            stream.sendall(first)
            while True:
                sent += stream.send(b"x" * 65536)

    began = time.monotonic()
    with pytest.raises(Unreachable, match=f"more than {MAX_BYTES_BEFORE_LOGIN} bytes before the login"):
        open_connection(dataclasses.replace(endpoint, port=listener(flood)), timeout_s=60)
    assert time.monotonic() - began < 50
    assert sent < 10 * MAX_BYTES_BEFORE_LOGIN


def packet(payload: bytes) -> bytes:
    padding = 16 - (len(payload) + 5) % 8
    return (len(payload) + padding + 1).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)


@pytest.mark.parametrize(
    "said",
    [
        packet(b"\x14"),
        packet(b"\x14" + b"\xff" * 64),
        packet(b"\x14" + bytes(16) + (b"\x00\x00\x00\x02\xff\xfe" * 10) + bytes(5)),
        packet(b"\x01\x00\x00\x00\x01" + b"\x00\x00\x00\x09" + b"\x1b[2J\xff\xfe\x9b31"),
        b"\x00\x00\x00\x00" * 8,
        b"\xff" * 64,
        os.urandom(512),
    ],
    ids=["empty", "long names", "no utf-8", "disconnect", "zeros", "ones", "random"],
)
def test_packets_that_are_not_ssh(endpoint: Endpoint, listener: Listener, said: bytes) -> None:
    def handle(stream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            stream.sendall(b"SSH-2.0-x\r\n" + said)
            while stream.recv(4096):
                continue

    with pytest.raises(HoldfastError) as refused:
        open_connection(dataclasses.replace(endpoint, port=listener(handle)), timeout_s=3)
    assert not UNSAFE.search(str(refused.value))


class _Wants(paramiko.ServerInterface):
    """Accepts any key, and then requires an invalid method."""

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002  paramiko's own signature
        return f"publickey,{NASTY}"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:  # noqa: ARG002  as above
        return AUTH_PARTIALLY_SUCCESSFUL


def test_invalid_ways_to_log_in(endpoint: Endpoint, server: Sshd, listener: Listener) -> None:
    done = threading.Event()

    def handle(stream: socket.socket) -> None:
        transport = paramiko.Transport(stream)
        transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(server.host_key)))
        transport.start_server(server=_Wants())
        done.wait(T)
        transport.close()

    with pytest.raises(LoginRefused, match="refused the login") as refused:
        open_connection(
            dataclasses.replace(endpoint, port=listener(handle), pinned_key=public(server.host_key)), timeout_s=T
        )
    done.set()
    assert r"\x1b[2J" in str(refused.value)
    assert not UNSAFE.search(str(refused.value))
