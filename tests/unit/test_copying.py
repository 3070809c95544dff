"""Copies that go on after a link that broke."""

import subprocess
from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed, DeadlinePassed, Restarted
from holdfast.base.settings import script
from holdfast.nixcli.copying import BROKEN_LINKS, Failures, looks_like_link
from holdfast.target.machine import Machine
from tests.log import Remembered
from tests.unit.cases import host
from tests.unit.desk import Desk
from tests.unit.target import FakeMachine

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


def copy(machine: FakeMachine, log: Remembered, **deadlines: float) -> list[int]:
    """Copy to the boot that runs now; return how many bytes were there at each step."""
    seen: list[int] = []
    here = Machine(host(deadlines=deadlines), log).on_boot(machine.boot_id)
    here.copy(["/nix/store/x-system"], root="/mnt", on_bytes=seen.append)
    return seen


@pytest.fixture
def log() -> Remembered:
    return Remembered()


@pytest.mark.usefixtures("desk")
def test_whole_copy(machine: FakeMachine, log: Remembered) -> None:
    copy(machine, log)
    assert log.lines == ["copying path 2", "copying path 3"]
    assert machine.story == ["copied to /mnt: system"]


def test_goes_on_when_the_target_answers_again(machine: FakeMachine, desk: Desk, log: Remembered) -> None:
    # Also words that nobody knows: the target was away, so it was the link.
    desk.copies = [FULL, BROKEN, FULL, FULL]
    desk.while_copying = lambda: machine.is_away(40)
    seen_bytes = copy(machine, log)
    assert log.lines.count("cottage answers again; copying the rest") == 4
    assert machine.story == ["old copies ended"] * 4 + ["copied to /mnt: system"]
    # What went over whole is not counted twice, what did not go over whole is not counted.
    assert seen_bytes[-1] == 4 * 100 + 150


def test_failure_of_nix_is_tried_once_more(machine: FakeMachine, desk: Desk, log: Remembered) -> None:
    desk.copies = [FULL]
    copy(machine, log)
    assert "cottage answers; copying the rest" in log.lines
    desk.copies = [FULL, FULL, "never reached"]
    with pytest.raises(CommandFailed, match="No space left"):
        copy(machine, log)
    assert desk.copies == ["never reached"]


def test_links_that_break_and_are_there_at_once(machine: FakeMachine, desk: Desk, log: Remembered) -> None:
    desk.copies = [BROKEN] * (BROKEN_LINKS - 1)
    copy(machine, log)
    desk.copies = [BROKEN] * (BROKEN_LINKS + 1)
    with pytest.raises(CommandFailed, match="unexpected end-of-file"):
        copy(machine, log)
    assert len(desk.copies) == 1


def test_deadline(machine: FakeMachine, desk: Desk, log: Remembered) -> None:
    desk.copies = [BROKEN]
    desk.while_copying = lambda: setattr(machine, "up", False)
    with pytest.raises(DeadlinePassed, match=r"a connection to copy the rest; last seen: .*no answer"):
        copy(machine, log, copy_s=600)
    assert machine.clock.passed_s > 550


def test_another_boot_is_not_copied_to(machine: FakeMachine, desk: Desk, log: Remembered) -> None:
    desk.copies = [BROKEN, "never reached"]
    desk.while_copying = machine.reset
    with pytest.raises(Restarted):
        copy(machine, log)
    assert machine.story == ["origin boots"]
    assert desk.copies == ["never reached"]


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
