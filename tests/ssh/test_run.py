import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed, ConnectionLost, DeadlinePassed, UnexpectedState
from holdfast.ssh.connection import Connection, open_connection
from holdfast.ssh.endpoint import Endpoint
from tests.ssh.sshd import Sshd, gone

T = 20


@pytest.mark.parametrize(
    "argument",
    [
        "",
        " ",
        "a b",
        "'",
        '"',
        "$HOME",
        "`id`",
        "$(id)",
        "\\",
        "\\n",
        "a\nb",
        "*",
        "!",
        "-n",
        "--",
        ";",
        "&",
        "é",
        "%s",
        "~",
    ],
)
def test_argument_arrives_as_it_is(target: Connection, argument: str) -> None:
    done = target.run(["printf", "[%s]", argument, "end"], timeout_s=T)
    assert done.stdout == f"[{argument}][end]"


def test_result_holds_status_and_both_outputs(target: Connection) -> None:
    done = target.run(["sh", "-c", "echo out; echo err >&2; exit 7"], timeout_s=T, check=False)
    assert (done.exit_status, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert done.argv == ("sh", "-c", "echo out; echo err >&2; exit 7")
    assert done.host == "cottage"


def test_failure_carries_the_result(target: Connection) -> None:
    with pytest.raises(
        CommandFailed, match=r"`sh -c 'echo no >&2; exit 3'` on cottage ended with status 3: no"
    ) as info:
        target.run(["sh", "-c", "echo no >&2; exit 3"], timeout_s=T)
    assert info.value.result.exit_status == 3


def test_unknown_command(target: Connection) -> None:
    assert target.run(["no-such-command"], timeout_s=T, check=False).exit_status == 127


def test_command_killed_by_a_signal(target: Connection) -> None:
    done = target.run(["sh", "-c", "kill -TERM $$"], timeout_s=T, check=False)
    assert done.exit_status == 128 + signal.SIGTERM


def test_standard_input(target: Connection) -> None:
    data = bytes(range(256)) * 40_000
    done = target.run(["sh", "-c", "sha256sum; echo end"], timeout_s=T, stdin=data)
    assert done.stdout == f"{hashlib.sha256(data).hexdigest()}  -\nend\n"


def test_without_stdin_the_command_sees_its_end(target: Connection) -> None:
    assert target.run(["cat"], timeout_s=T).stdout == ""


def test_command_that_does_not_read_its_input(target: Connection) -> None:
    assert target.run(["true"], timeout_s=T, stdin=b"x" * 5_000_000).exit_status == 0


def test_big_input_and_output_do_not_block_each_other(target: Connection) -> None:
    data = b"0123456789abcde\n" * 400_000
    assert target.run(["cat"], timeout_s=60, stdin=data).stdout == data.decode()


def test_script_with_arguments(target: Connection) -> None:
    done = target.run_script('echo "$#: $1"; for x in "$@"; do echo "<$x>"; done', ["a b", "-x"], timeout_s=T)
    assert done.stdout == "2: a b\n<a b>\n<-x>\n"


def test_lines_come_from_both_outputs_and_cannot_act_on_a_terminal(target: Connection) -> None:
    lines: list[str] = []
    target.run(
        ["sh", "-c", r"printf 'a\033[2Jb\n'; printf 'c\007\tof\r\nfull\rempty\n' >&2; printf last"],
        timeout_s=T,
        on_line=lines.append,
    )
    assert sorted(lines) == sorted(["a\\x1b[2Jb", "c\\x07 of", "full", "empty", "last"])


def test_output_keeps_its_tail_and_says_so(target: Connection) -> None:
    done = target.run(["sh", "-c", "yes 0123456 | head -n 100000; echo the end"], timeout_s=T, max_output_bytes=1000)
    first, rest = done.stdout.split("\n", 1)
    assert first == "[the first 799008 bytes were dropped; the last 1000 follow]"
    assert len(rest) == 1000
    assert rest.endswith("the end\n")


def test_deadline_of_a_silent_command_ends_it_there_too(target: Connection, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(DeadlinePassed, match=r"`sh -c .*` on cottage \(.*\) did not end within 1 s"):
        target.run(["sh", "-c", 'echo $$ > "$1"; exec sleep 1000', "sh", str(pid_file)], timeout_s=1)
    pid = int(pid_file.read_text())
    assert gone(pid)
    assert target.run(["echo", "still", "here"], timeout_s=T).stdout == "still here\n"


def test_deadline_holds_while_output_trickles(target: Connection) -> None:
    with pytest.raises(DeadlinePassed, match="its last line was: drip"):
        target.run(["sh", "-c", "while :; do echo drip; sleep 0.05; done"], timeout_s=1)


def test_deadline_holds_while_output_floods(target: Connection) -> None:
    with pytest.raises(DeadlinePassed, match="its last line was: y"):
        target.run(["yes"], timeout_s=1, max_output_bytes=1000)


def test_deadline_holds_while_the_command_does_not_read(target: Connection) -> None:
    with pytest.raises(DeadlinePassed):
        target.run(["sleep", "1000"], timeout_s=1, stdin=b"x" * 20_000_000)


def test_child_that_keeps_the_output_open_does_not_hold_the_command(target: Connection, tmp_path: Path) -> None:
    done = target.run(
        ["sh", "-c", 'sleep 1000 & echo $! > "$1"; echo started', "sh", str(tmp_path / "pid")], timeout_s=60
    )
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert done.stdout == "started\n"


def test_broken_link_is_not_a_failed_command(endpoint: Endpoint, server: Sshd) -> None:
    with open_connection(endpoint, timeout_s=T) as target:
        started = threading.Event()

        def cut() -> None:
            started.wait(T)
            server.cut()

        threading.Thread(target=cut, daemon=True).start()
        with pytest.raises(ConnectionLost, match=r"The connection to cottage \(.*\) broke during `sh -c"):
            target.run(["sh", "-c", "echo on; exec sleep 1000"], timeout_s=60, on_line=lambda _line: started.set())
        with pytest.raises(ConnectionLost):
            target.run(["true"], timeout_s=T)


def test_error_of_the_caller_is_not_swallowed(target: Connection) -> None:
    def full_disk(_line: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        target.run(["echo", "x"], timeout_s=T, on_line=full_disk)


class TestFiles:
    def test_read_is_binary_safe(self, target: Connection, tmp_path: Path) -> None:
        data = bytes(range(256)) * 10
        (tmp_path / "a b'").write_bytes(data)
        assert target.read_file(str(tmp_path / "a b'"), max_bytes=len(data), timeout_s=T) == data

    def test_read_refuses_what_is_too_long(self, target: Connection, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"x" * 11)
        with pytest.raises(UnexpectedState, match="wrote more than 10 bytes"):
            target.read_file(str(tmp_path / "f"), max_bytes=10, timeout_s=T)

    def test_read_of_nothing(self, target: Connection, tmp_path: Path) -> None:
        with pytest.raises(CommandFailed, match="nope"):
            target.read_file(str(tmp_path / "nope"), max_bytes=10, timeout_s=T)

    def test_failed_read_shows_nothing_of_the_content(self, target: Connection) -> None:
        with pytest.raises(CommandFailed) as info:
            target.read_output(["sh", "-c", "cat; echo SEC''RET; exit 1"], max_bytes=100, timeout_s=T)
        assert "SECRET" not in str(info.value)
        assert info.value.result.stdout == ""

    def test_write_sets_mode_and_replaces(self, target: Connection, tmp_path: Path) -> None:
        place = tmp_path / "f"
        place.write_text("old")
        target.write_file(str(place), b"\x00new\n", mode=0o640, timeout_s=T)
        assert place.read_bytes() == b"\x00new\n"
        assert place.stat().st_mode & 0o7777 == 0o640
        assert [file.name for file in tmp_path.iterdir()] == ["f"]

    def test_write_makes_the_folder_if_it_is_told_how(self, target: Connection, tmp_path: Path) -> None:
        place = tmp_path / "new" / "deep" / "f"
        with pytest.raises(CommandFailed):
            target.write_file(str(place), b"x", mode=0o644, timeout_s=T)
        target.write_file(str(place), b"x", mode=0o644, timeout_s=T, folder_mode=0o751)
        assert place.read_bytes() == b"x"
        assert place.parent.stat().st_mode & 0o7777 == 0o751

    def test_write_refuses_a_folder(self, target: Connection, tmp_path: Path) -> None:
        with pytest.raises(CommandFailed, match="is a folder"):
            target.write_file(str(tmp_path), b"x", mode=0o600, timeout_s=T)


def test_command_that_ends_while_its_input_is_read_keeps_its_status(target: Connection) -> None:
    def slowly() -> Iterator[bytes]:
        yield b"first"
        time.sleep(1.5)  # meanwhile the command has ended
        yield b"second"

    with pytest.raises(CommandFailed, match="status 3: no") as info:
        target.stream(["sh", "-c", "sleep 0.5; echo no >&2; exit 3"], slowly(), timeout_s=T)
    assert info.value.result.exit_status == 3
