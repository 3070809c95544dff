import contextlib
import dataclasses
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast.base.errors import ConfigError, DeadlinePassed, LoginRefused, Unreachable
from holdfast.ssh.connection import open_connection
from holdfast.ssh.endpoint import Endpoint, Jump, ProxyCommand, Socks5
from holdfast.ssh.openssh import write_ssh_config
from tests.ssh.sshd import Listener, agent_with, free_port, make_key, public

T = 20

PIPE = "import socket,sys,os,threading\ns=socket.create_connection((sys.argv[1],int(sys.argv[2])))\n" + (
    "def up():\n"
    "  while d:=os.read(0,65536): s.sendall(d)\n"
    "threading.Thread(target=up,daemon=True).start()\n"
    "while d:=s.recv(65536): os.write(1,d)\n"
)


def test_nothing_listens(endpoint: Endpoint) -> None:
    with pytest.raises(Unreachable, match=r"cottage: no connection to 127\.0\.0\.1:.*: Connection refused") as info:
        open_connection(dataclasses.replace(endpoint, port=free_port()), timeout_s=T)
    assert info.value.hint


def test_address_that_swallows_packets_leaves_time_for_the_next(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        # Nobody accepts: once its queue is full, it does not answer any more.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", place)
            for place in (full.getsockname(), ("127.0.0.1", endpoint.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        with open_connection(endpoint, timeout_s=T) as target:
            assert target.run(["echo", "in"], timeout_s=T).stdout == "in\n"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"address": "fe80::7%eth0"}, "hostname fe80::7%eth0"),
        ({"address_family": "inet6"}, "addressfamily inet6"),
        ({"bind_address": "127.0.0.2"}, "bindaddress 127.0.0.2"),
        ({"proxy": ProxyCommand(("way", "100%%n", "%n", "%h"))}, "proxycommand way 100%%n home %h"),
    ],
)
def test_config_for_nix_copy_says_the_same_to_openssh(
    changed: dict[str, Any], said: str, endpoint: Endpoint, tmp_path: Path
) -> None:
    with open_connection(endpoint, timeout_s=T) as target:
        target.link.endpoint = dataclasses.replace(endpoint, asked_as="home", **changed)
        config = write_ssh_config(target.link, tmp_path)
    done = subprocess.run(["ssh", "-G", "-F", str(config), "cottage"], capture_output=True, text=True, check=True)
    assert said in done.stdout.splitlines()


def test_name_that_does_not_exist(endpoint: Endpoint) -> None:
    with pytest.raises(Unreachable, match=r"the name 'no-such-host\.invalid' cannot be resolved") as info:
        open_connection(dataclasses.replace(endpoint, address="no-such-host.invalid"), timeout_s=T)
    assert 'proxy = "tailscale-nc"' in info.value.hint


def test_server_that_never_says_a_word(endpoint: Endpoint, listener: Listener) -> None:
    port = listener(lambda _stream: time.sleep(T))
    with pytest.raises(DeadlinePassed, match="no SSH handshake within 1 s"):
        open_connection(dataclasses.replace(endpoint, port=port), timeout_s=1)


def test_server_that_trickles_a_banner_for_ever(endpoint: Endpoint, listener: Listener) -> None:
    def drip(stream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream.sendall(b"welcome\r\n")
                time.sleep(0.1)

    with pytest.raises(DeadlinePassed, match="no SSH handshake within 1 s"):
        open_connection(dataclasses.replace(endpoint, port=listener(drip)), timeout_s=1)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 \x1b[31mBad\r\n\r\n", b"SSH-1.0-old\r\n", b"\x00\xff\n", b""])
def test_server_that_does_not_speak_ssh(endpoint: Endpoint, listener: Listener, said: bytes) -> None:
    def answer(stream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            stream.sendall(said)
            stream.recv(100)
            stream.close()

    with pytest.raises(Unreachable, match="no SSH server answered") as info:
        open_connection(dataclasses.replace(endpoint, port=listener(answer)), timeout_s=T)
    assert info.value.message.isprintable()


def test_refused_login_says_what_was_tried(endpoint: Endpoint, tmp_path: Path) -> None:
    wrong = make_key(tmp_path / "wrong")
    missing = tmp_path / "missing"
    with pytest.raises(LoginRefused, match="refused the login: tried") as info:
        open_connection(dataclasses.replace(endpoint, identity_files=(missing, wrong)), timeout_s=T)
    assert str(wrong) in info.value.message
    assert f"{missing} (No such file or directory)" in info.value.message
    assert "authorized_keys" in info.value.hint


def test_key_with_a_passphrase_is_named(endpoint: Endpoint, tmp_path: Path) -> None:
    key = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(key)], check=True)
    with pytest.raises(LoginRefused, match="has a passphrase"):
        open_connection(dataclasses.replace(endpoint, identity_files=(key,)), timeout_s=T)


def test_key_of_the_agent(endpoint: Endpoint, client_key: Path, tmp_path: Path) -> None:
    of_agent = dataclasses.replace(endpoint, identity_files=(), agent=tmp_path / "agent")
    with agent_with(tmp_path / "agent", client_key), open_connection(of_agent, timeout_s=T) as target:
        assert target.login_key == public(client_key)


@pytest.mark.parametrize("address", ["-oProxyCommand=id", "a b", "", "a\nb", "$(id)"])
def test_invalid_address(endpoint: Endpoint, address: str) -> None:
    with pytest.raises(ConfigError, match="invalid address"):
        dataclasses.replace(endpoint, address=address)


class TestProxyCommand:
    def via(self, endpoint: Endpoint, *argv: str) -> Endpoint:
        return dataclasses.replace(endpoint, proxy=ProxyCommand(argv))

    def test_leads_to_the_target_and_ends_with_the_connection(self, endpoint: Endpoint) -> None:
        with open_connection(self.via(endpoint, sys.executable, "-c", PIPE, "%h", "%p"), timeout_s=T) as target:
            assert target.run(["echo", "hello"], timeout_s=T).stdout == "hello\n"
            argv = f"127.0.0.1 {endpoint.port}"
            assert subprocess.run(["pgrep", "-f", argv], capture_output=True, check=False).returncode == 0
        assert subprocess.run(["pgrep", "-f", argv], capture_output=True, check=False).returncode == 1

    def test_that_hangs_is_killed_at_the_deadline(self, endpoint: Endpoint, tmp_path: Path) -> None:
        argv = ("sh", "-c", f"echo $$ > {tmp_path}/pid; trap '' TERM; while :; do sleep 0.1; done")
        with pytest.raises(DeadlinePassed, match=r"no SSH handshake within 1 s: the proxy command .* still runs"):
            open_connection(self.via(endpoint, *argv), timeout_s=1)
        assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()

    def test_that_fails_is_quoted(self, endpoint: Endpoint) -> None:
        with pytest.raises(Unreachable, match="ended with status 9: is tailscaled running"):
            open_connection(self.via(endpoint, "sh", "-c", "echo is tailscaled running >&2; exit 9"), timeout_s=T)

    def test_that_does_not_exist(self, endpoint: Endpoint) -> None:
        with pytest.raises(Unreachable, match="`no-such-proxy` cannot be started"):
            open_connection(self.via(endpoint, "no-such-proxy"), timeout_s=T)


def socks_server(stream: socket.socket, *, reply: int = 0, asked: list[tuple[str, int]] | None = None) -> None:
    assert stream.recv(3) == b"\x05\x01\x00"
    stream.sendall(b"\x05\x00")
    assert stream.recv(4) == b"\x05\x01\x00\x03"
    name = stream.recv(stream.recv(1)[0]).decode()
    (port,) = struct.unpack(">H", stream.recv(2))
    if asked is not None:
        asked.append((name, port))
    stream.sendall(bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0]))
    if reply:
        stream.close()
        return
    other = socket.create_connection(("127.0.0.1", port))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=pump, args=(stream, other), daemon=True).start()
    pump(other, stream)


class TestSocks5:
    def test_resolves_the_name(self, endpoint: Endpoint, listener: Listener) -> None:
        asked: list[tuple[str, int]] = []
        port = listener(lambda stream: socks_server(stream, asked=asked))
        through = dataclasses.replace(endpoint, address="cottage.tail.invalid", proxy=Socks5("127.0.0.1", port))
        with open_connection(through, timeout_s=T) as target:
            assert target.run(["echo", "hello"], timeout_s=T).stdout == "hello\n"
        assert asked == [("cottage.tail.invalid", endpoint.port)]

    def test_refusal_is_named(self, endpoint: Endpoint, listener: Listener) -> None:
        port = listener(lambda stream: socks_server(stream, reply=4))
        with pytest.raises(Unreachable, match=r"through the SOCKS5 proxy 127\.0\.0\.1:.*: host unreachable"):
            open_connection(dataclasses.replace(endpoint, proxy=Socks5("127.0.0.1", port)), timeout_s=T)

    def test_proxy_that_never_answers(self, endpoint: Endpoint, listener: Listener) -> None:
        port = listener(lambda _stream: time.sleep(T))
        with pytest.raises(Unreachable, match="timed out"):
            open_connection(dataclasses.replace(endpoint, proxy=Socks5("127.0.0.1", port)), timeout_s=1)

    def test_proxy_is_not_there(self, endpoint: Endpoint) -> None:
        with pytest.raises(Unreachable, match="SOCKS5 proxy: no connection to"):
            open_connection(dataclasses.replace(endpoint, proxy=Socks5("127.0.0.1", free_port())), timeout_s=T)


class TestJump:
    def test_leads_through_another_server(self, endpoint: Endpoint) -> None:
        via = dataclasses.replace(endpoint, host="gate")
        with open_connection(dataclasses.replace(endpoint, proxy=Jump(via)), timeout_s=T) as target:
            assert target.run(["echo", "hello"], timeout_s=T).stdout == "hello\n"

    def test_target_behind_it_is_down(self, endpoint: Endpoint) -> None:
        via = dataclasses.replace(endpoint, host="gate")
        down = dataclasses.replace(endpoint, port=free_port(), proxy=Jump(via))
        with pytest.raises(Unreachable, match=r"cottage: gate \(.*\) does not connect to 127\.0\.0\.1"):
            open_connection(down, timeout_s=T)


class TestOpenSsh:
    """The same connection, made by the real client."""

    def ssh(self, endpoint: Endpoint, folder: Path) -> subprocess.CompletedProcess[str]:
        with open_connection(endpoint, timeout_s=T) as target:
            config = write_ssh_config(target.link, folder)
        return subprocess.run(
            ["ssh", "-F", str(config), "cottage", "echo", "hello"],
            capture_output=True,
            text=True,
            timeout=T,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def test_directly(self, endpoint: Endpoint, tmp_path: Path) -> None:
        done = self.ssh(endpoint, tmp_path)
        assert done.stdout == "hello\n", done.stderr

    def test_by_command(self, endpoint: Endpoint, tmp_path: Path) -> None:
        script = tmp_path / "a pipe.py"
        script.write_text(PIPE)
        proxy = ProxyCommand((sys.executable, str(script), "%h", "%p"))
        done = self.ssh(dataclasses.replace(endpoint, proxy=proxy), tmp_path)
        assert done.stdout == "hello\n", done.stderr

    def test_by_socks5(self, endpoint: Endpoint, tmp_path: Path, listener: Listener) -> None:
        proxy = Socks5("127.0.0.1", listener(socks_server))
        done = self.ssh(dataclasses.replace(endpoint, proxy=proxy), tmp_path)
        assert done.stdout == "hello\n", done.stderr

    def test_refuses_another_key(self, endpoint: Endpoint, tmp_path: Path) -> None:
        with open_connection(endpoint, timeout_s=T) as target:
            config = write_ssh_config(target.link, tmp_path)
        (tmp_path / "known_hosts").write_text(f"cottage {public(make_key(tmp_path / 'other'))}\n")
        argv = ["ssh", "-F", str(config), "cottage", "true"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=T, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 255
        assert "Host key verification failed" in done.stderr
