"""A link that is open but carries nothing, as when a machine loses power."""

import contextlib
import dataclasses
import socket
import threading

import pytest

from holdfast.base.errors import ConnectionLost
from holdfast.ssh import link
from holdfast.ssh.connection import open_connection
from holdfast.ssh.endpoint import Endpoint
from tests.ssh.sshd import Listener, Sshd

T = 30


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "KEEPALIVE_S", 0.3)
    monkeypatch.setattr(link, "SILENCE_S", 1.5)


class Hole:
    """A relay to a server; it drops everything once `open` is cleared."""

    def __init__(self, server: Sshd) -> None:
        self.open = threading.Event()
        self.open.set()
        self._port = server.port

    def __call__(self, stream: socket.socket) -> None:
        other = socket.create_connection(("127.0.0.1", self._port))
        threading.Thread(target=self._pump, args=(stream, other), daemon=True).start()
        self._pump(other, stream)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.open.is_set():
                    sink.sendall(data)


def test_link_that_falls_silent_is_lost(endpoint: Endpoint, server: Sshd, listener: Listener) -> None:
    hole = Hole(server)
    through = dataclasses.replace(endpoint, port=listener(hole))
    with (
        open_connection(through, timeout_s=T) as target,
        pytest.raises(ConnectionLost, match=r"broke during `sh -c .*: nothing was heard for 1\.5 s"),
    ):
        target.run(["sh", "-c", "echo on; sleep 1000"], timeout_s=600, on_line=lambda _line: hole.open.clear())


def test_silent_command_on_a_living_link_continues(endpoint: Endpoint) -> None:
    with open_connection(endpoint, timeout_s=T) as target:
        assert target.run(["sh", "-c", "sleep 4; echo end"], timeout_s=T).stdout == "end\n"
