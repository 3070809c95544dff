"""A state archive in the place of a machine's own: whole or not at all, and what was there is kept."""

import hashlib
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.base.settings import script
from tests.unit.test_archive import tar_of

SCRIPT = script("any/restore-state.sh")
TIME = "20260601T120000Z"
POISON = b'{"privkey": "poison-of-the-state"}'
ARCHIVE = tar_of(("./tailscaled.state", POISON), ("./certs/a.crt", b"cert"))


class Machine:
    """A folder that stands for the machine's root; its systemctl writes down what it was told."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        self.state = self.root / "var/lib/tailscale"
        self.before = self.state.with_name(f"tailscale.before-restore-{TIME}")
        self.log = folder / "log"
        self.shell = shell
        self.tools = folder / "tools"
        self.tools.mkdir()
        self.tool("systemctl", f'echo "$* $(cat {self.state}/tailscaled.state 2>/dev/null)" >>{self.log}')
        if os.geteuid() != 0:
            self.tool("chown", ":")

    def tool(self, name: str, does: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{does}\n")
        (self.tools / name).chmod(0o755)

    def own(self, name: str = "tailscaled.state", text: str = "own") -> None:
        (self.state / name).parent.mkdir(parents=True, exist_ok=True)
        (self.state / name).write_text(text)

    def call(self, *words: str, archive: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        env = {"PATH": f"{self.tools}:{os.environ['PATH']}", "HOLDFAST_ROOT": str(self.root)}
        command = [*self.shell, "-c", SCRIPT, "restore-state.sh", *words]
        return subprocess.run(command, input=archive, capture_output=True, env=env, timeout=30, check=False)

    def show(self) -> list[str]:
        done = self.call("show")
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode().split()

    def run(
        self, archive: bytes = ARCHIVE, at: str = TIME, seen: list[str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        return self.call(at, *(seen or self.show()), archive=archive)

    @property
    def lock(self) -> Path:
        return self.root / "run/holdfast/lock.json"

    def told(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def files(self) -> set[str]:
        return {path.relative_to(self.root / "var/lib").as_posix() for path in (self.root / "var/lib").rglob("*")}


@pytest.fixture
def machine(shell: list[str], tmp_path: Path) -> Machine:
    return Machine(tmp_path, shell)


def test_state_is_in_place_before_tailscaled_starts(machine: Machine) -> None:
    done = machine.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert machine.told() == ["stop tailscaled ", f"start tailscaled {POISON.decode()}"]
    assert machine.files() == {
        "tailscale",
        "tailscale/tailscaled.state",
        "tailscale/certs",
        "tailscale/certs/a.crt",
    }
    modes = {path.name: path.stat().st_mode & 0o777 for path in (machine.state, *machine.state.rglob("*"))}
    assert modes == {"tailscale": 0o700, "certs": 0o700, "a.crt": 0o600, "tailscaled.state": 0o600}


def test_what_was_there_is_kept_for_root_alone(machine: Machine) -> None:
    machine.own()
    machine.own("files/x", "received")
    machine.state.chmod(0o755)
    done = machine.run()
    assert (done.returncode, done.stdout.decode()) == (0, f"/var/lib/tailscale.before-restore-{TIME}\n"), done.stderr
    assert machine.told()[0] == "stop tailscaled own"
    assert (machine.before / "tailscaled.state").read_text() == "own"
    assert (machine.before / "files/x").read_text() == "received"
    assert machine.before.stat().st_mode & 0o777 == 0o700
    assert not (machine.state / "files").exists()


def test_empty_folder_is_not_worth_keeping(machine: Machine) -> None:
    machine.state.mkdir(parents=True)
    assert machine.run().stdout == b""
    assert not machine.before.exists()


def test_archive_that_holds_the_whole_path(machine: Machine) -> None:
    machine.own()
    assert machine.run(tar_of(("var/lib/tailscale/tailscaled.state", POISON))).returncode == 0
    assert (machine.state / "tailscaled.state").read_bytes() == POISON
    assert sorted(path.name for path in machine.state.parent.iterdir()) == ["tailscale", machine.before.name]


@pytest.mark.parametrize(
    "archive",
    [b"", b"no archive", ARCHIVE[: len(ARCHIVE) // 2], tar_of(("x", b"y")), tar_of(("tailscaled.state", b""))],
)
def test_archive_that_is_not_whole_changes_nothing(machine: Machine, archive: bytes) -> None:
    machine.own()
    done = machine.run(archive)
    assert done.returncode == 1
    assert b"the archive" in done.stderr
    assert b"poison" not in done.stderr
    assert machine.told() == []
    assert machine.files() == {"tailscale", "tailscale/tailscaled.state"}


@pytest.mark.parametrize("own", [True, False])
def test_tailscaled_that_does_not_start_gets_its_own_state_back(machine: Machine, own: bool) -> None:
    if own:
        machine.own()
    state = shlex.quote(f"{machine.state}/tailscaled.state")
    machine.tool("systemctl", f'echo "$*" >>{machine.log}; [ "$1" = stop ] || ! grep -q poison {state}')
    done = machine.run()
    assert done.returncode == 1
    assert b"does not start with it" in done.stderr
    assert machine.told() == ["stop tailscaled", "start tailscaled", "start tailscaled"]
    assert machine.files() == ({"tailscale", "tailscale/tailscaled.state"} if own else set())


def test_tailscaled_that_cannot_be_stopped(machine: Machine) -> None:
    machine.own()
    machine.tool("systemctl", f'echo "$*" >>{machine.log}; [ "$1" != stop ]')
    done = machine.run()
    assert done.returncode == 1
    assert b"cannot be stopped" in done.stderr
    assert machine.told() == ["stop tailscaled", "start tailscaled"]
    assert (machine.state / "tailscaled.state").read_text() == "own"
    assert machine.files() == {"tailscale", "tailscale/tailscaled.state"}


def test_folder_that_is_a_file_system_of_its_own_stays_one(machine: Machine) -> None:
    machine.own()
    machine.own("lost+found/x")
    machine.tool("mountpoint", f'[ "$2" = {shlex.quote(str(machine.state))} ]')
    inode = machine.state.stat().st_ino
    assert machine.run().returncode == 0
    assert machine.state.stat().st_ino == inode
    assert (machine.state / "tailscaled.state").read_bytes() == POISON
    assert (machine.state / "lost+found").is_dir()
    assert (machine.before / "tailscaled.state").read_text() == "own"


def test_file_system_of_its_own_gets_its_state_back(machine: Machine) -> None:
    machine.own()
    machine.tool("mountpoint", f'[ "$2" = {shlex.quote(str(machine.state))} ]')
    machine.tool("systemctl", f'[ "$1" = stop ] || ! grep -q poison {shlex.quote(f"{machine.state}/tailscaled.state")}')
    assert machine.run().returncode == 1
    assert machine.files() == {"tailscale", "tailscale/tailscaled.state"}
    assert (machine.state / "tailscaled.state").read_text() == "own"


def test_link_is_not_followed(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    machine.state.parent.mkdir(parents=True)
    machine.state.symlink_to(tmp_path / "elsewhere")
    assert b"is a link" in machine.run().stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("at", ["", "../x", "2026-06-01", "x"])
def test_time_is_a_time(machine: Machine, at: str) -> None:
    done = machine.run(at=at)
    assert (done.returncode, machine.told()) == (1, [])
    assert b"usage" in done.stderr


def test_show_changes_nothing(machine: Machine) -> None:
    assert machine.show() == ["none", "none"]
    machine.own()
    machine.lock.parent.mkdir(parents=True)
    machine.lock.write_text("held")
    digests = [hashlib.sha256(text).hexdigest() for text in (b"own", b"held")]
    assert machine.show() == digests
    assert machine.told() == []
    assert [path.name for path in machine.lock.parent.iterdir()] == ["lock.json"]


def a_person_logs_in(machine: Machine) -> None:
    machine.own(text="another node")


def a_person_logs_out(machine: Machine) -> None:
    (machine.state / "tailscaled.state").unlink()


def a_run_begins(machine: Machine) -> None:
    machine.lock.parent.mkdir(parents=True, exist_ok=True)
    machine.lock.write_text("held by run-1")


def the_lock_is_renewed(machine: Machine) -> None:
    machine.lock.write_text("held by run-1, later")


@pytest.mark.parametrize(
    ("had", "change", "said"),
    [
        (True, a_person_logs_in, b"another than a moment ago"),
        (False, a_person_logs_in, b"another than a moment ago"),
        (True, a_person_logs_out, b"another than a moment ago"),
        (True, a_run_begins, b"a run has begun"),
        (False, a_run_begins, b"a run has begun"),
    ],
)
def test_machine_that_has_changed_since_the_look_keeps_its_state(
    machine: Machine, had: bool, change: Callable[[Machine], None], said: bytes
) -> None:
    if had:
        machine.own()
    seen = machine.show()
    change(machine)
    after = machine.files() if (machine.root / "var").exists() else set()
    done = machine.run(seen=seen)
    assert done.returncode == 3
    assert said in done.stderr
    assert b"poison" not in done.stderr
    assert machine.told() == []
    assert machine.files() == after
    assert not machine.before.exists()


def test_a_run_that_renews_its_lock_keeps_the_state_out(machine: Machine) -> None:
    machine.own()
    a_run_begins(machine)
    seen = machine.show()
    the_lock_is_renewed(machine)
    assert machine.run(seen=seen).returncode == 3


def test_state_that_changes_while_tailscaled_stops_stays(machine: Machine) -> None:
    machine.own()
    seen = machine.show()
    state = shlex.quote(f"{machine.state}/tailscaled.state")
    machine.tool("systemctl", f'echo "$*" >>{machine.log}; [ "$1" != stop ] || echo new >{state}')
    done = machine.run(seen=seen)
    assert done.returncode == 3
    assert machine.told() == ["stop tailscaled", "start tailscaled"]
    assert (machine.state / "tailscaled.state").read_text() == "new\n"


def test_no_run_can_take_the_lock_meanwhile(machine: Machine) -> None:
    """The lock's script, started while tailscaled is stopped, waits until tailscaled runs again."""
    lock = machine.root.parent / "lock.sh"
    lock.write_text(script("any/lock.sh"))
    (machine.root / "proc").mkdir()
    (machine.root / "proc/uptime").write_text("100.0 1.0\n")
    take = f"HOLDFAST_ROOT={machine.root} dash {lock} take run-1 >/dev/null 2>&1 9>&- </dev/null"
    machine.tool(
        "systemctl",
        f'echo "$*" >>{machine.log}\ncase $1 in stop) {take} & sleep 1; [ ! -e {machine.lock} ] || exit 9 ;; esac',
    )
    seen = machine.show()
    assert machine.run(seen=seen).returncode == 0
    ends = time.monotonic() + 60
    while not machine.lock.exists():
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert machine.told()[:2] == ["stop tailscaled", "start tailscaled"]
    assert (machine.state / "tailscaled.state").read_bytes() == POISON


@pytest.mark.parametrize("words", [(), ("show", "x"), (TIME,), (TIME, "none"), (TIME, "none", "none", "x")])
def test_words_that_it_does_not_understand(machine: Machine, words: tuple[str, ...]) -> None:
    done = machine.call(*words, archive=ARCHIVE)
    assert (done.returncode, machine.told()) == (1, [])
    assert b"usage" in done.stderr
