"""Detached work, against stand-ins for systemd's commands, which keep a unit's state in a folder."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed, ConfigError, DeadlinePassed, UnexpectedState
from holdfast.ssh.connection import Connection, open_connection
from holdfast.ssh.endpoint import Endpoint
from holdfast.target.detached import Step, next_step, run_detached
from holdfast.target.units import (
    Condition,
    Unit,
    UnitState,
    find_work,
    has_begun,
    parse_journal,
    parse_state,
    parse_units,
    unit_state,
)
from tests.ssh.sshd import Sshd

T = 20
WORK = "holdfast work on x"
OTHER = "holdfast work on y"

# Called as systemctl, systemd-run or journalctl. A unit is a folder: pid, status, invocation, work, lines.
FAKE_SYSTEMD = """#!{python}
import json, os, pathlib, subprocess, sys, uuid
name, args = os.path.basename(sys.argv[0]), sys.argv[1:]
root = pathlib.Path({root!r})
if name == "systemd-run":
    options = args[:args.index("--")]
    unit = root / next(o for o in options if o.startswith("--unit="))[7:]
    if unit.exists():
        sys.exit("Unit was already loaded or has a fragment file.")
    assert "--property=RemainAfterExit=yes" in options
    env = dict(o[9:].split("=", 1) for o in options if o.startswith("--setenv="))
    unit.mkdir()
    (unit / "invocation").write_text(uuid.uuid4().hex)
    (unit / "work").write_text(next(o for o in options if o.startswith("--description="))[14:])
    script = 'u=$1; shift; echo $$ > "$u/pid"; "$@" >> "$u/lines" 2>&1; echo $? > "$u/s"; mv "$u/s" "$u/status"'
    subprocess.Popen(["sh", "-c", script, "sh", str(unit), *args[len(options) + 1:]], env=env,
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
elif name == "systemctl" and args[:2] == ["show", "--all"]:
    blocks = []
    for unit in sorted(root.glob(args[-1])):
        shown = subprocess.run([sys.argv[0], "show", unit.name], capture_output=True, text=True, check=True).stdout
        blocks.append(f"Id={{unit.name}}\\nDescription={{(unit / 'work').read_text()}}\\nTransient=yes\\n" + shown)
    print("\\n".join(blocks), end="")
elif name == "systemctl" and args[0] == "show":
    unit = root / args[1]
    if not unit.exists():
        print("LoadState=not-found\\nActiveState=inactive\\nSubState=dead\\nResult=success\\nExecMainCode=0\\n"
            "ExecMainStatus=0\\nInvocationID=")
        sys.exit()
    status = (unit / "status").read_text().strip() if (unit / "status").exists() else None
    active = "active" if status in (None, "0") else "failed"
    print("LoadState=loaded\\nActiveState=" + active + "\\nSubState=" +
        ("running" if status is None else "exited" if status == "0" else "failed"))
    print("Result=" + ("success" if active == "active" else "exit-code"))
    print("ExecMainCode=" + ("0" if status is None else "1"), "ExecMainStatus=" + (status or "0"), sep="\\n")
    print("InvocationID=" + (unit / "invocation").read_text())
elif name == "systemctl" and args[0] in ("reset-failed", "stop"):
    (root / args[1]).rename(root / ("old-" + uuid.uuid4().hex))
elif name == "journalctl" and args != ["--sync"]:
    unit = root / next(a for a in args if a.startswith("--unit="))[7:]
    after = int(next((a[15:] for a in args if a.startswith("--after-cursor=")), "-1"))
    lines = (unit / "lines").read_text().split("\\n")[:-1] if (unit / "lines").exists() else []
    said = [("Started by systemd", "")] + [(l, (unit / "invocation").read_text()) for l in lines]
    for number, (line, invocation) in enumerate(said):
        if number > after:
            extra = {{"_SYSTEMD_INVOCATION_ID": invocation}} if invocation else {{"INVOCATION_ID": "x"}}
            print(json.dumps({{"__CURSOR": str(number), "MESSAGE": line, **extra}}))
"""


@pytest.fixture
def units(server: Sshd, tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "units"
    root.mkdir()
    names = ("systemctl", "systemd-run", "journalctl")
    for name in names:
        (server.bin / name).write_text(FAKE_SYSTEMD.format(python=sys.executable, root=str(root)))
        (server.bin / name).chmod(0o755)
    yield root
    for name in names:
        (server.bin / name).unlink()
    for pid in root.glob("*/pid"):
        if not (pid.parent / "status").exists():
            os.killpg(int(pid.read_text()), signal.SIGKILL)


class Reconnect:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.count = 0

    def __call__(self) -> Connection:
        self.count += 1
        return open_connection(self.endpoint, timeout_s=T)


def test_output_and_success(endpoint: Endpoint, units: Path) -> None:
    lines: list[str] = []
    done = run_detached(
        Reconnect(endpoint),
        "holdfast-x",
        ["sh", "-c", 'echo "$WORD"; printf "\\033[2J\\n" >&2; echo "$1"', "sh", "a b'"],
        work=WORK,
        timeout_s=T,
        on_line=lines.append,
        env={"WORD": "from env"},
    )
    assert lines == ["from env", "\\x1b[2J", "a b'"]
    assert done.stdout == "from env\n\\x1b[2J\na b'\n"
    assert done.exit_status == 0
    assert [unit.name for unit in units.iterdir()] == ["holdfast-x.service"]


def test_failure_carries_status_and_lines(endpoint: Endpoint, units: Path) -> None:
    assert units.is_dir()
    with pytest.raises(CommandFailed, match=r"ended with status 4: no room \| at all") as info:
        run_detached(
            Reconnect(endpoint),
            "holdfast-x",
            ["sh", "-c", "echo no room; echo at all; exit 4"],
            work=WORK,
            timeout_s=T,
            on_line=lambda _line: None,
        )
    assert "journalctl -u holdfast-x.service" in info.value.hint


def test_failed_work_is_done_again_and_shows_only_its_own_lines(endpoint: Endpoint, units: Path) -> None:
    argv = ["sh", "-c", 'echo "try $(ls -d "$1"/* | wc -l)"; [ -e "$1/old-"* ]', "sh", str(units)]
    with pytest.raises(CommandFailed):
        run_detached(Reconnect(endpoint), "holdfast-x", argv, work=WORK, timeout_s=T, on_line=lambda _line: None)
    lines: list[str] = []
    run_detached(Reconnect(endpoint), "holdfast-x", argv, work=WORK, timeout_s=T, on_line=lines.append)
    assert lines == ["try 2"]


def test_work_that_succeeded_is_read_and_not_done_again(endpoint: Endpoint, units: Path, tmp_path: Path) -> None:
    argv = ["sh", "-c", 'echo once >> "$1"; echo done', "sh", str(tmp_path / "count")]
    for _ in range(2):
        lines: list[str] = []
        run_detached(Reconnect(endpoint), "holdfast-x", argv, work=WORK, timeout_s=T, on_line=lines.append)
        assert lines == ["done"]
    assert units.is_dir()
    assert (tmp_path / "count").read_text() == "once\n"


def test_continues_after_a_cut_and_loses_or_doubles_no_line(
    endpoint: Endpoint, units: Path, server: Sshd, tmp_path: Path
) -> None:
    assert units.is_dir()
    go = tmp_path / "go"
    argv = ["sh", "-c", 'echo one; while [ ! -e "$1" ]; do sleep 0.05; done; echo two', "sh", str(go)]
    lines: list[str] = []
    reconnect = Reconnect(endpoint)

    def on_line(line: str) -> None:
        lines.append(line)
        if line == "one":
            threading.Thread(target=cut, daemon=True).start()

    def cut() -> None:
        server.cut()
        go.touch()

    run_detached(reconnect, "holdfast-x", argv, work=WORK, timeout_s=T, on_line=on_line)
    assert [line for line in lines if "connect" not in line] == ["one", "two"]
    assert any("x keeps running; connecting again" in line for line in lines)
    assert reconnect.count == 2


def test_running_work_is_joined_with_all_its_lines(endpoint: Endpoint, units: Path, tmp_path: Path) -> None:
    argv = ["sh", "-c", 'echo one; while [ ! -e "$1" ]; do sleep 0.05; done; echo two', "sh", str(tmp_path / "go")]
    with pytest.raises(DeadlinePassed, match=r"x\.service on .* did not end within 2 s; last line: one") as info:
        run_detached(Reconnect(endpoint), "holdfast-x", argv, work=WORK, timeout_s=2, on_line=lambda _line: None)
    assert "joins it" in info.value.hint
    assert not (units / "holdfast-x.service" / "status").exists()
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        (tmp_path / "go").touch()

    run_detached(Reconnect(endpoint), "holdfast-x", ["false"], work=WORK, timeout_s=T, on_line=on_line)
    assert lines == ["one", "two"]


def test_unit_that_vanishes(endpoint: Endpoint, units: Path) -> None:
    def on_line(_line: str) -> None:
        (units / "holdfast-x.service").rename(units / "gone")

    with pytest.raises(UnexpectedState, match=r"The unit is gone.*Hint: Retry the run"):
        run_detached(
            Reconnect(endpoint),
            "holdfast-x",
            ["sh", "-c", "echo on; sleep 1000"],
            work=WORK,
            timeout_s=T,
            on_line=on_line,
        )


WAITS = ["sh", "-c", 'echo one; while [ ! -e "$1" ]; do sleep 0.05; done; echo two', "sh"]


def leave_running(endpoint: Endpoint, name: str, work: str, go: Path) -> None:
    """Start work as a run whose worker dies."""
    with pytest.raises(DeadlinePassed):
        run_detached(Reconnect(endpoint), name, [*WAITS, str(go)], work=work, timeout_s=1, on_line=lambda _line: None)


class Run:
    """A new run whose command differs from the one before."""

    def __init__(self, endpoint: Endpoint, go: Path | None = None, at: str = "one") -> None:
        self.endpoint = endpoint
        self.go = go
        self.at = at
        self.lines: list[str] = []

    def line(self, line: str) -> None:
        self.lines.append(line)
        if self.go and self.at in line:
            self.go.touch()

    def __call__(self, name: str, work: str, *argv: str, begun: bool = False) -> list[str]:
        run_detached(
            Reconnect(self.endpoint),
            name,
            argv or ["echo", "mine"],
            work=work,
            timeout_s=T,
            on_line=self.line,
            begun=begun,
        )
        return self.lines


def test_work_of_another_run_is_joined(endpoint: Endpoint, target: Connection, units: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    assert not has_begun(target, WORK)
    leave_running(endpoint, "holdfast-install-aaaa", WORK, go)
    assert has_begun(target, WORK)
    said = Run(endpoint, go)("holdfast-install-bbbb", WORK)
    assert said == ["holdfast-install-aaaa.service of another run does this work; following it.", "one", "two"]
    assert [unit.name for unit in units.iterdir()] == ["holdfast-install-aaaa.service"]


def test_work_that_another_run_has_done_is_only_read(endpoint: Endpoint, target: Connection, units: Path) -> None:
    Run(endpoint)("holdfast-partition-aaaa", WORK, "echo", "done")
    assert has_begun(target, WORK)
    assert Run(endpoint)("holdfast-partition-bbbb", WORK, begun=True)[1:] == ["done"]
    assert Run(endpoint)("holdfast-partition-bbbb", WORK)[1:] == ["done"]
    assert len(list(units.iterdir())) == 1


def test_work_that_another_run_failed_at_is_done_again(endpoint: Endpoint, target: Connection, units: Path) -> None:
    with pytest.raises(CommandFailed):
        Run(endpoint)("holdfast-partition-aaaa", WORK, "false")
    assert not has_begun(target, WORK)
    assert Run(endpoint)("holdfast-partition-bbbb", WORK) == ["mine"]
    assert len(list(units.iterdir())) == 2


def test_joined_work_that_fails_is_not_begun_again(endpoint: Endpoint, units: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    fails = [*WAITS[:2], WAITS[2] + "; exit 7", "sh", str(go)]
    with pytest.raises(DeadlinePassed):
        run_detached(Reconnect(endpoint), "holdfast-x-a", fails, work=WORK, timeout_s=1, on_line=lambda _line: None)
    with pytest.raises(CommandFailed, match="status 7"):
        Run(endpoint, go)("holdfast-x-b", WORK, begun=True)
    with pytest.raises(CommandFailed, match="status 7"):
        Run(endpoint, go)("holdfast-x-b", WORK, begun=True)
    assert len(list(units.iterdir())) == 1


def test_work_that_had_begun_and_is_gone_is_not_begun_again(endpoint: Endpoint, units: Path) -> None:
    with pytest.raises(UnexpectedState, match=r"holdfast work on x\) is gone.*Hint: Retry the run"):
        Run(endpoint)("holdfast-x-b", WORK, begun=True)
    assert not list(units.iterdir())


def test_other_work_is_waited_for(endpoint: Endpoint, units: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    leave_running(endpoint, "holdfast-install-aaaa", OTHER, go)
    said = Run(endpoint, go, at="still runs")("holdfast-install-bbbb", WORK)
    waits = f"holdfast-install-aaaa.service still runs there ({OTHER}); waiting for it to end, at most "
    assert said[0].startswith(waits)
    assert said[1:] == ["mine"]
    # What it installed is undone now, so it would have to be done anew.
    assert not (units / "holdfast-install-aaaa.service").exists()
    assert Run(endpoint)("holdfast-install-cccc", OTHER) == ["mine"]


def test_other_work_is_not_waited_for_without_end(endpoint: Endpoint, units: Path, tmp_path: Path) -> None:
    leave_running(endpoint, "holdfast-install-aaaa", OTHER, tmp_path / "go")
    with pytest.raises(DeadlinePassed, match=r"holdfast-install-aaaa\.service on .* did not end within 1 s"):
        run_detached(Reconnect(endpoint), "holdfast-x-b", ["true"], work=WORK, timeout_s=1, on_line=lambda _line: None)
    assert len(list(units.iterdir())) == 1


def test_other_work_of_the_same_run_is_not_taken_for_this(endpoint: Endpoint, units: Path) -> None:
    Run(endpoint)("holdfast-partition-aaaa", OTHER, "echo", "other")
    Run(endpoint)("holdfast-install-aaaa", OTHER, "echo", "other")
    assert Run(endpoint)("holdfast-install-aaaa", WORK) == ["mine"]
    assert (units / "holdfast-partition-aaaa.service").exists()


def test_many_lines(endpoint: Endpoint, units: Path) -> None:
    assert units.is_dir()
    lines: list[str] = []
    run_detached(Reconnect(endpoint), "holdfast-x", ["seq", "3500"], work=WORK, timeout_s=T, on_line=lines.append)
    assert lines == [str(number) for number in range(1, 3501)]


def test_state(target: Connection, units: Path) -> None:
    assert unit_state(target, "holdfast-x") == UnitState(Condition.ABSENT)
    (units / "holdfast-x.service").mkdir()
    (units / "holdfast-x.service" / "invocation").write_text("abc")
    assert unit_state(target, "holdfast-x").condition is Condition.RUNNING
    (units / "holdfast-x.service" / "status").write_text("3\n")
    assert unit_state(target, "holdfast-x") == UnitState(Condition.FAILED, 3, "abc", "exit-code")


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "a\nb", "x" * 101])
def test_invalid_name(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a name for a unit"):
        run_detached(lambda: pytest.fail("connected"), name, ["true"], work=WORK, timeout_s=1, on_line=print)


def shown(load: str, active: str, sub: str, code: int, status: int, result: str = "success") -> str:
    return (
        f"LoadState={load}\nActiveState={active}\nSubState={sub}\nResult={result}\n"
        f"ExecMainCode={code}\nExecMainStatus={status}\nInvocationID=i\n"
    )


@pytest.mark.parametrize(
    ("text", "condition", "status"),
    [
        (shown("not-found", "inactive", "dead", 0, 0), Condition.ABSENT, 0),
        (shown("loaded", "inactive", "dead", 0, 0), Condition.ABSENT, 0),
        (shown("loaded", "activating", "start", 0, 0), Condition.RUNNING, 0),
        (shown("loaded", "active", "running", 0, 0), Condition.RUNNING, 0),
        (shown("loaded", "active", "exited", 1, 0), Condition.SUCCEEDED, 0),
        (shown("loaded", "failed", "failed", 1, 7, "exit-code"), Condition.FAILED, 7),
        (shown("loaded", "failed", "failed", 1, 203, "exit-code"), Condition.FAILED, 203),
        (shown("loaded", "failed", "failed", 2, 9, "signal"), Condition.FAILED, 137),
        (shown("loaded", "failed", "failed", 3, 6, "core-dump"), Condition.FAILED, 134),
        (shown("loaded", "failed", "failed", 0, 0, "resources"), Condition.FAILED, 255),
        (shown("loaded", "failed", "failed", 1, 0, "timeout"), Condition.FAILED, 255),
        (shown("loaded", "active", "exited", 0, 0), Condition.FAILED, 255),
        ("", Condition.ABSENT, 0),
        ("nonsense\n=\n", Condition.ABSENT, 0),
    ],
)
def test_what_systemd_shows(text: str, condition: Condition, status: int) -> None:
    state = parse_state(text)
    assert (state.condition, state.exit_status) == (condition, status)


def test_units_that_systemd_shows() -> None:
    def block(name: str, work: str, transient: str, state: str) -> str:
        return f"Id={name}\nDescription={work}\nTransient={transient}\n{state}"

    running, done = shown("loaded", "active", "running", 0, 0), shown("loaded", "active", "exited", 1, 0)
    failed = shown("loaded", "failed", "failed", 1, 7)
    units = parse_units(
        "\n".join(
            [
                block("holdfast-deadman.service", "w", "no", running),
                block("holdfast-install-a.service", "w", "yes", failed),
                block("holdfast-install-b.service", "w", "yes", done),
                block("holdfast-install-c.service", "a = b", "yes", running),
                block("holdfast;x.service", "w", "yes", running),
                "nonsense",
            ]
        )
    )
    assert [(unit.name[-9:-8], unit.work, unit.state.condition) for unit in units] == [
        ("a", "w", Condition.FAILED),
        ("b", "w", Condition.SUCCEEDED),
        ("c", "a = b", Condition.RUNNING),
    ]
    assert units[0].kind == "holdfast-install"
    assert find_work(units, "w") == units[1]
    assert find_work(units, "none") is None
    again = Unit("holdfast-install-d.service", "w", UnitState(Condition.RUNNING))
    assert find_work([*units, again], "w") == again
    assert parse_units("") == []


def test_next_step() -> None:
    failed, absent = UnitState(Condition.FAILED, 1, "a"), UnitState(Condition.ABSENT)
    running, succeeded = UnitState(Condition.RUNNING, 0, "a"), UnitState(Condition.SUCCEEDED, 0, "a")
    assert next_step(absent, ours=False, failed_before=None) is Step.START
    assert next_step(running, ours=False, failed_before=None) is Step.FOLLOW
    assert next_step(succeeded, ours=False, failed_before=None) is Step.FOLLOW
    assert next_step(failed, ours=False, failed_before=None) is Step.RESET_AND_START
    assert next_step(failed, ours=True, failed_before=None) is Step.FOLLOW
    # The link broke while the unit was started: the same failure is still the old one, a new one is ours.
    assert next_step(failed, ours=False, failed_before="a") is Step.RESET_AND_START
    assert next_step(failed, ours=False, failed_before="b") is Step.FOLLOW
    with pytest.raises(UnexpectedState):
        next_step(absent, ours=True, failed_before=None)


def test_journal_entries() -> None:
    output = "\n".join(
        [
            json.dumps({"__CURSOR": "1", "MESSAGE": "plain", "_SYSTEMD_INVOCATION_ID": "i"}),
            json.dumps({"__CURSOR": "2", "MESSAGE": [27, 91, 65], "_SYSTEMD_INVOCATION_ID": "i"}),
            json.dumps({"__CURSOR": "3", "MESSAGE": None}),
            json.dumps({"MESSAGE": "no cursor"}),
            "[1, 2]",
            '{"__CURSOR": "5", "MESS',
        ]
    )
    assert [(entry.cursor, entry.text, entry.invocation) for entry in parse_journal(output)] == [
        ("1", "plain", "i"),
        ("2", "\\x1b[A", "i"),
        ("3", "", ""),
    ]
