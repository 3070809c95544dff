"""A server that lets one in only after a person has visited an address, as Tailscale SSH does in check mode."""

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator

import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL

from holdfast.base.errors import DeadlinePassed, HoldfastError, LoginRefused
from holdfast.base.telling import telling
from holdfast.ssh.connection import open_connection
from holdfast.ssh.endpoint import Endpoint
from tests.log import Remembered
from tests.ssh.sshd import Listener, Sshd
from tests.ssh.test_hostile import UNSAFE

T = 20
URL = "https://login.tailscale.com/a/l1b2c3"
BANNER = f"# Tailscale SSH requires an additional check.\r\n# To authenticate, visit: {URL}\r\n"


class Waiting(paramiko.ServerInterface):
    """Says a banner when it is asked for a login without a key, and answers when it may."""

    def __init__(self, banner: str, answer: int, may: threading.Event) -> None:
        self.transport: paramiko.Transport
        self._banner, self._answer, self._may = banner, answer, may

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002  paramiko's own signature
        return "publickey"

    def check_auth_none(self, username: str) -> int:  # noqa: ARG002  as above
        message = paramiko.Message()
        message.add_byte(b"\x35")
        message.add_string(self._banner)
        message.add_string("")
        self.transport._send_message(message)  # type: ignore[attr-defined]  # the stubs leave it out
        self._may.wait(T)
        return self._answer


@dataclasses.dataclass
class Server:
    """A waiting server, and the person who confirms once the log has told the address."""

    port: int
    may: threading.Event
    log: Remembered


class Person(Remembered):
    """Confirms as soon as it is told an address."""

    def __init__(self, may: threading.Event) -> None:
        super().__init__()
        self._may = may

    def warn(self, text: str) -> None:
        super().warn(text)
        if "https://" in text:
            self._may.set()


@pytest.fixture
def serving(server: Sshd, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Return a function that serves one kind of waiting."""
    monkeypatch.setattr("holdfast.ssh.login.CHECK_AFTER_S", 0.3)
    events: list[threading.Event] = []

    def make(banner: str, *, answer: int = AUTH_SUCCESSFUL, at_once: bool = False, present: bool = True) -> Server:
        may = threading.Event()
        events.append(may)
        if at_once:
            may.set()

        def handle(stream: socket.socket) -> None:
            waiting = Waiting(banner, answer, may)
            waiting.transport = paramiko.Transport(stream)
            waiting.transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(server.host_key)))
            with contextlib.suppress(EOFError, paramiko.SSHException):
                waiting.transport.start_server(event=threading.Event(), server=waiting)

        return Server(listener(handle), may, Person(may) if present else Remembered())

    yield make
    for may in events:
        may.set()


def enter(endpoint: Endpoint, serving: Server, timeout_s: float = T) -> None:
    to = dataclasses.replace(endpoint, port=serving.port, identity_files=())
    with telling(serving.log):
        open_connection(to, timeout_s=timeout_s).close()


def test_the_address_is_shown_and_the_person_waited_for(endpoint: Endpoint, serving: Callable[..., Server]) -> None:
    at = serving(BANNER)
    # Longer than a connection may take otherwise.
    enter(endpoint, at, timeout_s=1)
    told = at.log.warned[0]
    assert URL in told
    assert "Tailscale SSH does in check mode" in told
    assert told.isprintable()


def test_what_it_says_is_escaped_and_short(endpoint: Endpoint, serving: Callable[..., Server]) -> None:
    at = serving(f"\x1b[2J\u202e {URL} " + "x" * 100_000)
    enter(endpoint, at)
    assert URL in at.log.warned[0]
    assert not UNSAFE.search(at.log.warned[0])
    assert len(at.log.warned[0]) < 900


def test_nobody_is_there(endpoint: Endpoint, serving: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.ssh.login.PERSON_WITHIN_S", 0.5)
    with pytest.raises(DeadlinePassed, match=f"nobody confirmed the login.*{URL}") as seen:
        enter(endpoint, serving(BANNER, present=False))
    assert "check mode" in seen.value.hint


def test_the_person_says_no(endpoint: Endpoint, serving: Callable[..., Server]) -> None:
    with pytest.raises(LoginRefused, match=URL):
        enter(endpoint, serving(BANNER, answer=AUTH_FAILED))


@pytest.mark.parametrize("answer", [AUTH_SUCCESSFUL, AUTH_FAILED])
def test_an_address_in_a_banner_alone_is_no_check(
    endpoint: Endpoint, serving: Callable[..., Server], answer: int
) -> None:
    at = serving("Our rules: https://rules.example\n", answer=answer, at_once=True)
    with contextlib.suppress(LoginRefused):
        enter(endpoint, at)
    assert at.log.warned == []


def test_a_slow_server_is_no_check_and_its_words_are_told(endpoint: Endpoint, serving: Callable[..., Server]) -> None:
    at = serving("Please wait\n", present=False)
    with pytest.raises(HoldfastError, match="no answer to the login within 1 s: Please wait") as seen:
        enter(endpoint, at, timeout_s=1)
    assert isinstance(seen.value, DeadlinePassed)
    assert at.log.warned == []
