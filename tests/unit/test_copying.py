"""Copies that go on after a link that broke, with a nix and a target that these tests play."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.base.command import CommandResult
from holdfast.base.errors import CommandFailed, DeadlinePassed, Restarted, Unreachable
from holdfast.base.settings import script
from holdfast.base.waiting import wait_for
from holdfast.nixcli import copying
from holdfast.nixcli.copying import BROKEN_LINKS, Failures, copy_closure, looks_like_link
from tests.unit.cases import host

BROKEN = "client_loop: send disconnect: Broken pipe\nerror: unexpected end-of-file"
FULL = "error: writing to file: No space left on device"


@pytest.mark.parametrize(
    "said",
    [
        "error: unexpected end-of-file",
        "error: cannot write to pipe: Broken pipe",
        "Connection reset by 100.64.0.2 port 22",
        "Connection closed by UNKNOWN port 65535",
        "ssh: connect to host 100.64.0.2 port 22: Connection timed out",
        "Connection to 100.64.0.2 closed by remote host.",
        "error: failed to start SSH connection to 'cottage'",
        "client_loop: send disconnect: Broken pipe",
        "Timeout, server 100.64.0.2 not responding.",
        "ssh: connect to host 100.64.0.2 port 22: No route to host\nerror: anything",
    ],
)
def test_words_of_a_link_that_broke(said: str) -> None:
    assert looks_like_link(said)


@pytest.mark.parametrize("said", ["", FULL, "error: path '/nix/store/x' is not valid", "error: hash mismatch"])
def test_words_of_nix_itself(said: str) -> None:
    assert not looks_like_link(said)


def test_failures_in_a_row() -> None:
    failures = Failures()
    assert failures.add(said=FULL, missing=9)
    assert not failures.add(said=FULL, missing=9)
    failures = Failures()
    assert failures.add(said=FULL, missing=9)
    # The copy before brought two paths.
    assert failures.add(said=FULL, missing=7)
    assert not failures.add(said=FULL, missing=None)
    failures.forget()
    assert failures.add(said=FULL, missing=7)
    failures = Failures()
    assert all(failures.add(said=BROKEN, missing=1) for _ in range(BROKEN_LINKS - 1))
    assert not failures.add(said=BROKEN, missing=1)


class Play:
    """A target that answers, or not, and copies that fail, one after the other."""

    def __init__(self) -> None:
        self.endpoint = "the endpoint"
        self.ends: list[str] = []
        self.away = 0
        self.boots = ["boot-1"]
        self.ended_old = 0
        self.lines: list[str] = []
        self.seen_bytes: list[int] = []

    @contextlib.contextmanager
    def reach_soon(self, _host: object, *, boot_id: str) -> Iterator["Play"]:
        if self.away:
            self.away -= 1
            raise Unreachable("cottage does not answer.")
        if boot_id != (self.boots.pop(0) if len(self.boots) > 1 else self.boots[0]):
            raise Restarted("cottage was rebooted.")
        yield self

    def run_script(self, script: str, args: list[str], *, timeout_s: float) -> None:
        assert "--stdio" in script
        assert args == ["/proc"]
        assert timeout_s > 0
        self.ended_old += 1

    def run_local(
        self, argv: list[str], *, timeout_s: float, env: dict[str, str], on_line: Callable[[str], None]
    ) -> None:
        assert timeout_s > 0
        assert env["NIX_SSHOPTS"].startswith("-F /")
        on_line('@nix {"action":"start","id":1,"level":3,"type":103,"text":"copying 3 paths"}')
        for path in (2, 3):
            on_line(f'@nix {{"action":"start","id":{path},"level":3,"type":100,"text":"copying path {path}"}}')
        on_line('@nix {"action":"result","id":2,"type":105,"fields":[100,100,0,0]}')
        on_line('@nix {"action":"result","id":3,"type":105,"fields":[50,200,0,0]}')
        if self.ends:
            raise CommandFailed(CommandResult(tuple(argv), "operator", 1, "", self.ends.pop(0), 1.0))

    def copy(self, **deadlines: float) -> None:
        copy_closure(
            host(deadlines=deadlines),
            ["/nix/store/x"],
            root="/mnt",
            boot_id="boot-1",
            on_line=self.lines.append,
            on_bytes=self.seen_bytes.append,
        )


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    made = Play()
    for name in ("reach_soon", "run_local"):
        monkeypatch.setattr(copying, name, getattr(made, name))
    monkeypatch.setattr(copying, "write_ssh_config", lambda _endpoint, folder: folder / "ssh_config")
    monkeypatch.setattr(
        copying, "wait_for", lambda what, probe, **options: wait_for(what, probe, pause_s=0.01, **options)
    )
    return made


def test_whole_copy(play: Play) -> None:
    play.copy()
    assert play.lines == ["copying path 2", "copying path 3"]
    assert play.ended_old == 0


def test_goes_on_when_the_target_answers_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    # Also words that nobody knows: the target was away, so it was the link.
    play.ends = [FULL, BROKEN, FULL, FULL]
    real = play.run_local

    def run_local(*args: object, **options: object) -> None:
        play.away = 2
        real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(copying, "run_local", run_local)
    play.copy()
    assert play.lines.count("cottage answers again; copying the rest") == 4
    assert play.ended_old == 4
    # What went over whole is not counted twice, what did not go over whole is not counted.
    assert play.seen_bytes[-1] == 4 * 100 + 150


def test_failure_of_nix_is_tried_once_more(play: Play) -> None:
    play.ends = [FULL]
    play.copy()
    assert "cottage answers; copying the rest" in play.lines
    play.ends = [FULL, FULL, "never reached"]
    with pytest.raises(CommandFailed, match="No space left"):
        play.copy()
    assert play.ends == ["never reached"]


def test_links_that_break_and_are_there_at_once(play: Play) -> None:
    play.ends = [BROKEN] * (BROKEN_LINKS - 1)
    play.copy()
    play.ends = [BROKEN] * (BROKEN_LINKS + 1)
    with pytest.raises(CommandFailed, match="unexpected end-of-file"):
        play.copy()
    assert len(play.ends) == 1


def test_deadline(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    real = play.run_local

    def run_local(*args: object, **options: object) -> None:
        play.away = 1_000_000
        real(*args, **options)  # type: ignore[arg-type]

    play.ends = [BROKEN]
    monkeypatch.setattr(copying, "run_local", run_local)
    with pytest.raises(DeadlinePassed, match="a connection to copy the rest; last seen: cottage does not answer"):
        play.copy(copy_s=1)


def test_another_boot_is_not_copied_to(play: Play) -> None:
    play.ends = [BROKEN, "never reached"]
    play.boots = ["boot-1", "boot-2"]
    with pytest.raises(Restarted):
        play.copy()
    assert play.ended_old == 0
    assert play.ends == ["never reached"]


@pytest.mark.parametrize("shell", [["dash"], ["busybox", "sh"]])
def test_nix_of_a_broken_link_is_ended(tmp_path: Path, shell: list[str]) -> None:
    sleepers = [subprocess.Popen(["sleep", "100"]) for _ in range(4)]
    words = (b"nix-daemon\0--stdio\0", b"/nix/store/x/bin/nix\0daemon\0--stdio\0", b"nix-daemon\0", b"cat\0--stdio\0")
    try:
        for process, cmdline in zip(sleepers, words, strict=True):
            (tmp_path / str(process.pid)).mkdir()
            (tmp_path / str(process.pid) / "cmdline").write_bytes(cmdline)
        (tmp_path / "1000000000").mkdir()
        done = subprocess.run(
            [*shell, "-s", "--", str(tmp_path)],
            input=script("installer/end-old-copies.sh").encode(),
            timeout=20,
            check=False,
        )
        assert done.returncode == 0
        assert [sleepers[0].wait(5), sleepers[1].wait(5)] == [-9, -9]
        assert [sleepers[2].poll(), sleepers[3].poll()] == [None, None]
    finally:
        for process in sleepers:
            process.kill()
            process.wait()
