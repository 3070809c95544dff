"""A link that breaks during a login is Unreachable, at whichever step it breaks, and not a refused login."""

import contextlib
import dataclasses
import itertools
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL

from holdfast.base.errors import DeadlinePassed, LoginRefused, Unreachable
from holdfast.ssh.connection import open_connection
from holdfast.ssh.endpoint import Endpoint, Jump, ProxyCommand
from tests.ssh.sshd import Listener, Sshd, agent_with, make_key, public
from tests.ssh.test_reach import PIPE

T = 30
# A cut is reported at once, not at the deadline.
SOON_S = 12


@dataclass(frozen=True)
class Moment:
    """When the link is cut: right after the server has sent or received the n-th message of a kind (RFC 4250)."""

    name: str
    side: str
    message: int
    nth: int = 1


# One line for each step.
KEY_EXCHANGE = [
    Moment("the server's algorithms", "said", 20),
    Moment("the client's algorithms", "heard", 20),
    Moment("the client's half of the key", "heard", 30),
    Moment("the server's half of the key", "said", 31),
    Moment("the server's new keys", "said", 21),
    Moment("the client's new keys", "heard", 21),
    Moment("the service is asked for", "heard", 5),
    Moment("the service is there", "said", 6),
    Moment("a login without a key is asked for", "heard", 50),
]
WITH_KEYS = [
    Moment("the login without a key is refused", "said", 51),
    Moment("the wrong key is offered", "heard", 50, 2),
    Moment("the wrong key is refused", "said", 51, 2),
    Moment("the right key is offered", "heard", 50, 3),
    Moment("the right key is welcome", "said", 60),
    Moment("the right key's signature", "heard", 50, 4),
    Moment("the login is granted", "said", 52),
]


def ids(moment: object) -> str | None:
    return moment.name if isinstance(moment, Moment) else None


def cut(stream: socket.socket, *, reset: bool) -> None:
    """End a connection: in order, or with a reset, as a machine does that has forgotten it."""
    with contextlib.suppress(OSError):
        if reset:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            stream.shutdown(socket.SHUT_RDWR)
        stream.close()


class Cutting(paramiko.Transport):
    """The server's side of a connection that is cut at one moment."""

    def __init__(self, stream: socket.socket, moment: Moment, end: Callable[[], None]) -> None:
        super().__init__(stream)
        self._moment, self._end = moment, end
        self._counts: dict[tuple[str, int], int] = {}
        read = self.packetizer.read_message

        def heard() -> tuple[int, paramiko.Message]:
            kind, message = read()
            self._count("heard", kind)
            return kind, message

        self.packetizer.read_message = heard  # type: ignore[method-assign]

    def _send_message(self, data: paramiko.Message) -> None:
        super()._send_message(data)  # type: ignore[misc]  # the stubs leave it out
        self._count("said", data.asbytes()[0])

    def _count(self, side: str, kind: int) -> None:
        self._counts[side, kind] = self._counts.get((side, kind), 0) + 1
        if (side, kind, self._counts[side, kind]) == (self._moment.side, self._moment.message, self._moment.nth):
            self._end()
            raise EOFError


class OneKey(paramiko.ServerInterface):
    """Lets one key in."""

    def __init__(self, right: str) -> None:
        self._right = right

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002  paramiko's own signature
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:  # noqa: ARG002  as above
        return AUTH_SUCCESSFUL if f"{key.get_name()} {key.get_base64()}" == self._right else AUTH_FAILED


@pytest.fixture
def wrong_key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "wrong")


@pytest.fixture
def both(endpoint: Endpoint, wrong_key: Path, client_key: Path) -> Endpoint:
    return dataclasses.replace(endpoint, identity_files=(wrong_key, client_key))


@pytest.fixture
def cutting(server: Sshd, listener: Listener) -> Callable[..., int]:
    """Return a function that listens, serves a login, and cuts the link at a moment; it returns the port."""

    def at(moment: Moment, *, reset: bool = False, end: Callable[[], None] | None = None) -> int:
        def handle(stream: socket.socket) -> None:
            transport = Cutting(stream, moment, end or (lambda: cut(stream, reset=reset)))
            transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(server.host_key)))
            transport.start_server(event=threading.Event(), server=OneKey(public(server.client_key)))

        return listener(handle)

    return at


def assert_out_of_reach(endpoint: Endpoint) -> Unreachable:
    """Log in and run a command, which fails if the link breaks right after the login."""
    began = time.monotonic()
    with pytest.raises(Unreachable) as seen, open_connection(endpoint, timeout_s=T) as target:
        target.run(["true"], timeout_s=T)
    assert time.monotonic() - began < SOON_S
    assert not isinstance(seen.value, DeadlinePassed)
    return seen.value


@pytest.mark.parametrize("reset", [False, True], ids=["ended", "reset"])
@pytest.mark.parametrize("said", [b"", b"SSH-2.0-x", b"SSH-2.0-x\r\n"], ids=["nothing", "half a banner", "banner"])
def test_cut_before_the_key_exchange(endpoint: Endpoint, listener: Listener, said: bytes, reset: bool) -> None:
    def handle(stream: socket.socket) -> None:
        stream.sendall(said)
        cut(stream, reset=reset)

    assert_out_of_reach(dataclasses.replace(endpoint, port=listener(handle)))


@pytest.mark.parametrize("reset", [False, True], ids=["ended", "reset"])
@pytest.mark.parametrize("moment", [*KEY_EXCHANGE, *WITH_KEYS], ids=ids)
def test_cut_with_a_wrong_key_and_the_right_one(
    both: Endpoint, cutting: Callable[..., int], moment: Moment, reset: bool
) -> None:
    assert_out_of_reach(dataclasses.replace(both, port=cutting(moment, reset=reset)))


@pytest.mark.parametrize("moment", KEY_EXCHANGE, ids=ids)
def test_cut_with_no_key_at_all(endpoint: Endpoint, cutting: Callable[..., int], moment: Moment) -> None:
    assert_out_of_reach(dataclasses.replace(endpoint, identity_files=(), port=cutting(moment)))


@pytest.fixture
def agent(wrong_key: Path, client_key: Path, tmp_path: Path) -> Iterator[Path]:
    """An agent with a wrong key and the right one."""
    with agent_with(tmp_path / "agent", wrong_key, client_key):
        yield tmp_path / "agent"


@pytest.mark.parametrize("moment", [KEY_EXCHANGE[-1], *WITH_KEYS], ids=ids)
def test_cut_with_keys_of_an_agent(
    endpoint: Endpoint, agent: Path, cutting: Callable[..., int], moment: Moment
) -> None:
    assert_out_of_reach(dataclasses.replace(endpoint, identity_files=(), agent=agent, port=cutting(moment)))


@pytest.mark.parametrize("moment", [KEY_EXCHANGE[3], KEY_EXCHANGE[5], KEY_EXCHANGE[8], *WITH_KEYS[5:]], ids=ids)
def test_proxy_command_that_ends_with_the_link(both: Endpoint, cutting: Callable[..., int], moment: Moment) -> None:
    last_words = f"{PIPE}\nprint('the tailnet is gone', file=sys.stderr)"
    proxy = ProxyCommand((sys.executable, "-c", last_words, "%h", "%p"))
    seen = assert_out_of_reach(dataclasses.replace(both, port=cutting(moment), proxy=proxy))
    if moment.message != 52:
        assert "ended with status 0: the tailnet is gone" in seen.message


@pytest.mark.parametrize("moment", [KEY_EXCHANGE[3], KEY_EXCHANGE[5], KEY_EXCHANGE[8], *WITH_KEYS[5:]], ids=ids)
@pytest.mark.parametrize("dies", ["target", "jump host"])
def test_cut_behind_a_jump_host(
    both: Endpoint, server: Sshd, cutting: Callable[..., int], moment: Moment, dies: str
) -> None:
    port = cutting(moment, end=server.cut if dies == "jump host" else None)
    assert_out_of_reach(dataclasses.replace(both, port=port, proxy=Jump(both)))


class Relay:
    """A relay to a server, which cuts both sides after so many bytes from the server; None never cuts."""

    def __init__(self, port: int, after: int | None, *, reset: bool) -> None:
        self._port, self._after, self._reset = port, after, reset
        self.passed = 0

    def __call__(self, stream: socket.socket) -> None:
        other = socket.create_connection(("127.0.0.1", self._port))

        def up() -> None:
            with contextlib.suppress(OSError):
                while data := stream.recv(65536):
                    other.sendall(data)

        upward = threading.Thread(target=up, daemon=True)
        upward.start()
        with contextlib.suppress(OSError):
            while data := other.recv(65536 if self._after is None else max(1, self._after - self.passed)):
                stream.sendall(data)
                self.passed += len(data)
                if self.passed == self._after:
                    break
        # A socket that a thread still reads is not closed, so it is not reset.
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RD)
        upward.join()
        cut(stream, reset=self._reset)
        cut(other, reset=False)


def test_cut_anywhere_in_a_login_at_a_real_sshd(both: Endpoint, server: Sshd, listener: Listener) -> None:
    whole = Relay(server.port, None, reset=False)
    with open_connection(dataclasses.replace(both, port=listener(whole)), timeout_s=T):
        login = whole.passed
    # The key exchange is long and the answers of the login are short: they begin with the list of algorithms.
    places = sorted({*range(1, login - 600, 151), *range(login - 600, login, 29), login - 1})
    resets = itertools.cycle((False, True))
    for place, reset in zip(places, resets, strict=False):
        relay = Relay(server.port, place, reset=reset)
        assert_out_of_reach(dataclasses.replace(both, port=listener(relay)))
        assert relay.passed == place


@pytest.mark.parametrize(("allowed", "refused"), [(2, False), (1, False), (1, True)])
def test_too_many_attempts_take_more_connections(
    endpoint: Endpoint, tmp_path: Path, client_key: Path, allowed: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if refused:
        monkeypatch.setattr("holdfast.ssh.link.MOST_CONNECTIONS", 3)
    tmp_path.chmod(0o755)
    (tmp_path / "sshd").mkdir()
    strict = Sshd(tmp_path / "sshd", client_key, settings=(f"MaxAuthTries {allowed}",))
    wrong = tuple(make_key(tmp_path / f"wrong-{number}") for number in range(3))
    strict.start()
    try:
        to = dataclasses.replace(
            endpoint, port=strict.port, identity_files=(*wrong, client_key), pinned_key=public(strict.host_key)
        )
        if not refused:
            with open_connection(to, timeout_s=T) as target:
                assert target.login_key == public(client_key)
            return
        with pytest.raises(
            LoginRefused, match=r"too many authentication failures, on 3 connections; tried .*wrong-0.* 1 more"
        ) as seen:
            open_connection(to, timeout_s=T)
        assert str(client_key) not in seen.value.message, "it was not offered"
    finally:
        strict.stop()


def disconnect(reason: int, words: str) -> paramiko.Message:
    message = paramiko.Message()
    message.add_byte(b"\x01")
    message.add_int(reason)
    message.add_string(words)
    message.add_string("")
    return message


@pytest.mark.parametrize(
    ("reason", "words", "refused"),
    [
        (14, "No more auth methods available", True),
        (2, "too many authentication failures", True),  # Go's, and so Tailscale's
        (1, "not from there", True),
        (15, "no such user", True),
        (2, "Timeout before authentication", False),
        (10, "connection lost", False),
        (11, "the server goes down", False),
        (12, "too many connections", False),
    ],
)
@pytest.mark.parametrize("nth", [1, 2])
def test_words_of_a_server_that_hangs_up(
    endpoint: Endpoint, server: Sshd, listener: Listener, reason: int, words: str, refused: bool, nth: int
) -> None:
    def handle(stream: socket.socket) -> None:
        def say() -> None:
            transport._send_message(disconnect(reason, words))
            cut(stream, reset=False)

        transport = Cutting(stream, Moment("an attempt", "heard", 50, nth), say)
        transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(server.host_key)))
        transport.start_server(event=threading.Event(), server=OneKey(""))

    to = dataclasses.replace(endpoint, port=listener(handle))
    with pytest.raises(LoginRefused if refused else Unreachable, match=words):
        open_connection(to, timeout_s=T)


@pytest.mark.parametrize(
    ("banner", "refused"),
    [("tailscale: tailnet policy does not permit you to SSH to this node\r\n", True), ("Debian 13\r\n", False)],
)
def test_tailscales_own_server_refuses_in_a_banner(
    endpoint: Endpoint, server: Sshd, listener: Listener, banner: str, refused: bool
) -> None:
    def handle(stream: socket.socket) -> None:
        def say() -> None:
            message = paramiko.Message()
            message.add_byte(b"\x35")
            message.add_string(banner)
            message.add_string("")
            transport._send_message(message)
            cut(stream, reset=False)

        transport = Cutting(stream, KEY_EXCHANGE[-1], say)
        transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(server.host_key)))
        transport.start_server(event=threading.Event(), server=OneKey(""))

    with pytest.raises(LoginRefused if refused else Unreachable):
        open_connection(dataclasses.replace(endpoint, port=listener(handle)), timeout_s=T)


def test_answer_counts_though_the_link_is_cut_after_it(
    endpoint: Endpoint, wrong_key: Path, listener: Listener, server: Sshd
) -> None:
    def handle(stream: socket.socket) -> None:
        def leave() -> None:
            time.sleep(0.5)  # the answer is read first
            cut(stream, reset=False)

        transport = Cutting(stream, Moment("the wrong key is refused", "said", 51, 2), leave)
        transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(server.host_key)))
        transport.start_server(event=threading.Event(), server=OneKey(""))

    to = dataclasses.replace(endpoint, port=listener(handle), identity_files=(wrong_key,))
    with pytest.raises(LoginRefused, match=f"tried {wrong_key}"):
        open_connection(to, timeout_s=T)


def test_key_of_a_type_that_the_server_does_not_accept_is_skipped(
    endpoint: Endpoint, tmp_path: Path, server: Sshd, listener: Listener
) -> None:
    """paramiko itself ends the connection for such a key, which must not look like a broken link."""
    old = make_key(tmp_path / "old", "rsa")
    done = threading.Event()

    def handle(stream: socket.socket) -> None:
        kinds = ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"]
        transport = paramiko.Transport(stream, disabled_algorithms={"pubkeys": kinds})
        transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(server.host_key)))
        transport.start_server(event=threading.Event(), server=OneKey(public(server.client_key)))
        done.wait(T)
        transport.close()

    to = dataclasses.replace(endpoint, port=listener(handle))
    try:
        with open_connection(dataclasses.replace(to, identity_files=(old, server.client_key)), timeout_s=T) as target:
            assert target.login_key == public(server.client_key)
        with pytest.raises(LoginRefused, match=rf"tried {old} \(the server accepts no RSA keys\)"):
            open_connection(dataclasses.replace(to, identity_files=(old,)), timeout_s=T)
    finally:
        done.set()


def test_no_answer_to_an_attempt_is_not_a_refusal(
    both: Endpoint, cutting: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """paramiko waits by the wall clock, which somebody may set, and calls that a refusal too."""
    released = threading.Event()
    port = cutting(KEY_EXCHANGE[-1], end=lambda: bool(released.wait(T)))
    ahead = itertools.chain([0.0], itertools.repeat(3600.0))
    clock = type("Clock", (), {"time": staticmethod(lambda: time.time() + next(ahead))})
    monkeypatch.setattr("paramiko.auth_handler.time", clock)
    with pytest.raises(DeadlinePassed, match="no answer to the login"):
        open_connection(dataclasses.replace(both, port=port), timeout_s=T)
    released.set()
