import dataclasses
import getpass
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.inventory.host import Host
from holdfast.ssh import link
from holdfast.ssh.connection import Connection, open_connection
from holdfast.ssh.endpoint import Endpoint
from holdfast.target.machine import Machine
from tests.log import Remembered
from tests.ssh.sshd import Listener, Sshd, make_key, public, running

TIMEOUT_S = 20


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Print the log of a failed test's sshd."""
    report: Any = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.when == "call" and report.failed and isinstance(server, Sshd) and server.log.exists():
        report.sections.append(("sshd's log", server.log.read_text()[-8000:]))
    return report  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test profit from the key that let another one in."""
    monkeypatch.setattr(link, "_let_in", {})


@pytest.fixture(scope="session")
def client_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("client") / "id")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, client_key: Path) -> Iterator[Sshd]:
    with running(tmp_path_factory.mktemp("sshd"), client_key) as sshd:
        yield sshd


@pytest.fixture
def endpoint(server: Sshd, tmp_path: Path) -> Endpoint:
    return Endpoint(
        host="cottage",
        address="127.0.0.1",
        port=server.port,
        user=getpass.getuser(),
        identity_files=(server.client_key,),
        pins=tmp_path / "state" / "known_hosts",
        pinned_key=public(server.host_key),
    )


@pytest.fixture
def target(endpoint: Endpoint) -> Iterator[Connection]:
    with open_connection(endpoint, timeout_s=TIMEOUT_S) as connection:
        yield connection


@pytest.fixture
def unpinned(endpoint: Endpoint) -> Endpoint:
    return dataclasses.replace(endpoint, pinned_key=None)


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Return a function that serves each connection to a new loopback port with the given function."""
    sockets: list[socket.socket] = []

    def serve(handle: Callable[[socket.socket], None]) -> int:
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)

        def accept() -> None:
            while True:
                try:
                    stream, _ = listening.accept()
                except OSError:
                    return
                sockets.append(stream)
                threading.Thread(target=handle, args=(stream,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return int(listening.getsockname()[1])

    yield serve
    for opened in sockets:
        opened.close()


@pytest.fixture
def sshd(tmp_path_factory: pytest.TempPathFactory, client_key: Path) -> Iterator[Sshd]:
    """A server whose log belongs to one test."""
    with running(tmp_path_factory.mktemp("sshd"), client_key) as started:
        yield started


@pytest.fixture
def machine_at(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    def make(port: int, connect_s: float = 600) -> Machine:
        (tmp_path / "config").write_text(
            f"Host *\n  UserKnownHostsFile {tmp_path}/known\n"
            f"Host cottage.invalid\n  HostName 127.0.0.1\n  Port {port}\n"
        )
        monkeypatch.setenv("HOLDFAST_SSH_CONFIG", str(tmp_path / "config"))
        monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
        host = Host.model_validate(
            {
                "name": "cottage",
                "target": "cottage.invalid",
                "user": getpass.getuser(),
                "identity_file": sshd.client_key,
                "host_key": public(sshd.host_key),
                "deadlines": {"connect_s": connect_s},
            }
        )
        return Machine(host, Remembered())

    return make
