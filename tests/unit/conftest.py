import functools
import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdfast.base import beside, brake, clock, process
from holdfast.base.settings import settings
from holdfast.ssh import connection, reach, resolve
from holdfast.ssh.sshconfig import parse
from lab.nix import nix_wrapper
from tests.log import Remembered
from tests.unit.cases import LOGIN_KEY
from tests.unit.clock import FakeClock
from tests.unit.desk import Desk
from tests.unit.prefs_installer import jq_folder
from tests.unit.target import FakeMachine

if TYPE_CHECKING:
    from tests.unit.server import Server


@dataclass(frozen=True)
class Userland:
    """What a script finds on a target: its shell, and the PATH of its tools."""

    shell: list[str]
    path: str


@pytest.fixture(params=["dash", "busybox sh"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    """Each shell that a target may have."""
    argv: list[str] = request.param.split()
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {argv[0]} here")
    return argv


@pytest.fixture(params=["dash", "busybox sh", "busybox"])
def userland(request: pytest.FixtureRequest, tmp_path: Path) -> Userland:
    """Dash or busybox' shell with the tools of this machine, and one of busybox' tools alone: TOOLS of the module."""
    argv = request.param.split()
    found = shutil.which(argv[0]) or pytest.skip(f"no {argv[0]} here")
    if request.param != "busybox":
        return Userland(argv, os.environ["PATH"])
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in request.module.TOOLS:
        (folder / name).symlink_to(found)
    return Userland([found, "sh"], str(folder))


@pytest.fixture(scope="session")
def new_jq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH with a jq that keeps large numbers."""
    return jq_folder(tmp_path_factory.mktemp("tools"))


@pytest.fixture(scope="session")
def nix_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the store of `real_nix` is, as `nix/store`."""
    return tmp_path_factory.mktemp("nix")


@pytest.fixture
def real_nix(nix_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let Holdfast use the lab's Nix, with a store of its own, and return that store's folder."""
    if os.geteuid() != 0:
        pytest.skip("the lab's nix needs root")
    monkeypatch.setenv("HOLDFAST_NIX", json.dumps([str(nix_wrapper(nix_folder) / "nix")]))
    return nix_folder / "nix" / "nix" / "store"


def at_once(work: Callable[[], None], _name: str) -> threading.Event:
    """Do work that would go on beside, before anything else."""
    brake.context_without().run(work)
    ended = threading.Event()
    ended.set()
    return ended


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMachine]:
    """A fake machine, `cottage`, on a fake clock, and an operator that knows its host key."""
    made = FakeMachine(FakeClock())
    monkeypatch.setattr(connection, "open_connection", made.open_connection)
    monkeypatch.setattr(reach, "_silent_at", {})
    monkeypatch.setattr(reach, "_answered_at", {})
    monkeypatch.setattr(reach, "settings", functools.cache(settings))
    # What `ssh -G` says when the user's config says nothing; to start it for each connection takes long.
    monkeypatch.setattr(
        resolve,
        "look_up",
        lambda _file, name, user, port, default_user: parse(
            f"hostname {name}\nuser {user or default_user}\nport {port or 22}\n"
        ),
    )
    state = tmp_path / "state"
    state.mkdir()
    (state / "known_hosts").write_text(f"cottage {LOGIN_KEY}\n")  # any key: who answers there is never asked
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(state))
    random.seed(0)  # the pauses of a wait: the same test is the same night each time
    monkeypatch.setattr(beside, "start", at_once)  # the fake clock belongs to one thread
    with clock.using(made.clock):
        yield made


@pytest.fixture
def desk(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The operator's nix and tailscale, which know the fake machine."""
    made = Desk(machine)
    monkeypatch.setattr(process, "run_local", made.run_local)
    return made


@pytest.fixture
def log() -> Iterator[Remembered]:
    """The log of a phase that a test calls."""
    from tasks.run.log import reporting_to  # Prefect takes seconds to load, and most tests do without

    made = Remembered()
    with reporting_to(made):
        yield made


@pytest.fixture
def server(log: Remembered, monkeypatch: pytest.MonkeyPatch) -> "Server":
    """The Prefect server, for phases that a test calls as `body(phase)` with the run id RUN."""
    from tests.unit.server import put_in_place

    assert log
    return put_in_place(monkeypatch)
