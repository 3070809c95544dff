"""Meeting a machine that returns, with a real sshd behind a front that swallows what comes too early."""

import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.base.errors import NotTrusted
from holdfast.base.waiting import NotYet, wait_for
from holdfast.target.machine import BOOT_ID, Machine
from holdfast.target.returning import PAUSE_S, Met, Returning, ask
from tests.log import Remembered
from tests.ssh.sshd import Listener, Sshd, make_key, public

T = 60
Behaviour = Callable[[socket.socket], None]
BOOT = Path(BOOT_ID).read_text().strip()


class Front:
    """Accepts connections: the first ones meet these behaviours, the others the real sshd."""

    def __init__(self, listener: Listener, server: Sshd, *first: Behaviour) -> None:
        self._first, self._server = list(first), server
        self.accepted = 0
        self.left_hanging: list[socket.socket] = []
        self._lock = threading.Lock()
        self.port = listener(self._serve)

    def _serve(self, stream: socket.socket) -> None:
        with self._lock:
            self.accepted += 1
            behaviour = self._first.pop(0) if self._first else self.relay
        behaviour(stream)

    def never_speaks(self, stream: socket.socket) -> None:
        self.left_hanging.append(stream)

    def hangs_up(self, stream: socket.socket) -> None:
        stream.close()

    def speaks_and_hangs(self, stream: socket.socket) -> None:
        stream.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.left_hanging.append(stream)

    def relay(self, stream: socket.socket) -> None:
        try:
            behind = socket.create_connection(("127.0.0.1", self._server.port))
        except OSError:
            return  # the test is over

        def back() -> None:
            try:
                while data := behind.recv(65536):
                    stream.sendall(data)
            except OSError:
                pass
            finally:
                stream.close()

        threading.Thread(target=back, daemon=True).start()
        try:
            while data := stream.recv(65536):
                behind.sendall(data)
        except OSError:
            pass
        finally:
            behind.close()


def logins(server: Sshd) -> int:
    return len(re.findall(r"^Accepted publickey", server.log.read_text(), re.MULTILINE))


def meets(machine: Machine) -> Met:
    with Returning(machine) as returning:
        return wait_for("it", lambda: _met(returning), deadline_s=T, pause_s=PAUSE_S)


def _met(returning: Returning) -> Met:
    with returning.meet() as met:
        return met


def test_connections_that_never_speak_do_not_hide_the_third(
    listener: Listener, sshd: Sshd, machine_at: Callable[..., Machine]
) -> None:
    front = Front(listener, sshd)
    front._first += [front.never_speaks, front.never_speaks]
    met = meets(machine_at(front.port))
    assert met.who.boot_id == BOOT
    assert len(front.left_hanging) == 2
    assert logins(sshd) == 1


def test_host_that_answers_on_the_third_attempt(
    listener: Listener, sshd: Sshd, machine_at: Callable[..., Machine]
) -> None:
    front = Front(listener, sshd)
    front._first += [front.hangs_up, front.hangs_up]
    assert meets(machine_at(front.port)).who.boot_id == BOOT
    assert front.accepted == 3
    assert logins(sshd) == 1


def test_a_login_that_hangs_does_not_hide_the_next(
    listener: Listener, sshd: Sshd, machine_at: Callable[..., Machine]
) -> None:
    front = Front(listener, sshd)
    front._first += [front.speaks_and_hangs]
    assert meets(machine_at(front.port)).who.boot_id == BOOT
    assert logins(sshd) == 1


def test_a_slow_server_is_met_too(
    listener: Listener, sshd: Sshd, machine_at: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.base.overlap.PATIENCE_S", 0.05)  # nobody but the oldest waits so long
    front = Front(listener, sshd)

    def slow(stream: socket.socket) -> None:
        threading.Event().wait(1)
        front.relay(stream)

    front._first += [slow] * 1000
    assert meets(machine_at(front.port)).who.boot_id == BOOT
    assert logins(sshd) == 1


def test_another_host_key_ends_the_wait(
    listener: Listener, sshd: Sshd, machine_at: Callable[..., Machine], tmp_path: Path
) -> None:
    front = Front(listener, sshd)
    machine = machine_at(front.port)
    pinned = machine.host.model_copy(update={"host_key": public(make_key(tmp_path / "other"))})
    with pytest.raises(NotTrusted):
        meets(Machine(pinned, Remembered()))
    assert logins(sshd) == 0


def test_one_connection_is_asked_again_until_it_breaks(
    listener: Listener, sshd: Sshd, machine_at: Callable[..., Machine]
) -> None:
    front = Front(listener, sshd)
    with Returning(machine_at(front.port)) as returning:
        for _ in range(3):
            with pytest.raises(NotYet), returning.meet():
                raise NotYet("the previous system")
        assert logins(sshd) == 1
        sshd.cut()
        with returning.meet() as met:
            assert met.who.boot_id == BOOT
    assert logins(sshd) == 2


def test_who_is_asked_for_its_node_only_if_that_is_wanted(sshd: Sshd, machine_at: Callable[..., Machine]) -> None:
    key = "nodekey:" + "ab" * 32
    status = f'{{"BackendState": "Running", "Self": {{"PublicKey": "{key}", "ID": "7", "TailscaleIPs": []}}}}'
    program = sshd.bin / "tailscale"
    program.write_text(f"#!/bin/sh\nprintf %s '{status}'\n")
    program.chmod(0o755)
    with machine_at(sshd.port).connect() as target:
        assert ask(target, node=False).node is None
        node = ask(target, node=True).node
        assert node is not None
        assert node.node_key == key
        program.write_text("#!/bin/sh\necho not up >&2; exit 1\n")
        assert ask(target, node=True).node is None
