"""An upload to a real sshd on loopback, beside OpenSSH's own `cat`."""

import getpass
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.results import Measured
from holdfast.base.size import MIB
from holdfast.ssh.connection import Connection, open_connection
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.upload import upload_over_links
from tests.ssh.sshd import Sshd, make_key, public, running

SIZE_BYTES: Final = 128 * MIB
ROUNDS: Final = 5
TIMEOUT_S: Final = 600


def uploads() -> list[Measured]:
    """Upload a file of random bytes, in turn by Holdfast and by `ssh … cat`, each with its own connection.

    Holdfast also checks by sha256 what arrived. The second row has that in what it is compared with, too.
    """
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as name:
        folder = Path(name)
        key = make_key(folder / "id")
        local = folder / "local"
        with local.open("wb") as file:
            for _ in range(SIZE_BYTES // MIB):
                file.write(os.urandom(MIB))
        (folder / "sshd").mkdir()
        with running(folder / "sshd", key) as server:
            times = _in_turn(
                {
                    "holdfast": lambda: _by_holdfast(server, key, folder, local),
                    "cat": lambda: _by_ssh(server, key, local, folder / "by-ssh", 'cat >"$0"'),
                    "cat and sha256sum": lambda: _by_ssh(
                        server, key, local, folder / "by-ssh", 'cat >"$0"; sha256sum "$0"'
                    ),
                }
            )
    what = f"upload of {SIZE_BYTES // MIB} MiB"
    return [
        Measured(what, times["holdfast"], "ssh cat", times["cat"]),
        Measured(what, times["holdfast"], "ssh cat, sha256sum there", times["cat and sha256sum"]),
    ]


def _in_turn(actions: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Do each of them once a round; return the median of the seconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, act in actions.items():
            began = time.monotonic()
            act()
            taken[name].append(time.monotonic() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _by_holdfast(server: Sshd, key: Path, folder: Path, local: Path) -> None:
    endpoint = Endpoint(
        host="cottage",
        address="127.0.0.1",
        port=server.port,
        user=getpass.getuser(),
        identity_files=(key,),
        pins=folder / "known_hosts",
        pinned_key=public(server.host_key),
    )
    remote = folder / "by-holdfast"
    remote.unlink(missing_ok=True)

    def connect() -> Connection:
        return open_connection(endpoint, timeout_s=TIMEOUT_S)

    upload_over_links(connect, local, str(remote), timeout_s=TIMEOUT_S, on_line=print)


def _by_ssh(server: Sshd, key: Path, local: Path, remote: Path, command: str) -> None:
    remote.unlink(missing_ok=True)
    known = remote.with_name("known_hosts-of-ssh")
    known.write_text(f"[127.0.0.1]:{server.port} {public(server.host_key)}\n")
    argv = ["ssh", "-F", "none", "-i", str(key), "-p", str(server.port), "-o", f"UserKnownHostsFile={known}"]
    argv += ["127.0.0.1", f"sh -c '{command}' {remote}"]
    with local.open("rb") as file:
        subprocess.run(argv, stdin=file, stdout=subprocess.DEVNULL, check=True, timeout=TIMEOUT_S)
