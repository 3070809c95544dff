"""Runs a command on the operator: its output is streamed, and at its deadline it ends with all its processes."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from holdfast.base import brake, clock
from holdfast.base.command import CommandResult
from holdfast.base.deadline import or_raise
from holdfast.base.errors import CommandFailed, ConfigError, DeadlinePassed
from holdfast.base.log import never_failing
from holdfast.base.text import LineSplitter, Tail

OPERATOR: Final = "operator"
MAX_OUTPUT_BYTES: Final = 16 * 1024 * 1024
# From SIGTERM to SIGKILL.
GRACE_S: Final = 5.0
CHUNK_BYTES: Final = 65536
# How often the brake is looked at while a command runs; it limits by itself how often it asks.
CHECK_S: Final = 1.0


def run_local(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    meanwhile: Callable[[], None] | None = None,
    check: bool = True,
    if_missing: str = "Install it.",
) -> CommandResult:
    """Run a command on the operator and wait until it ends.

    Args:
        argv: the command; must not contain a secret.
        timeout_s: seconds after which its whole process group is ended.
        env: variables to add to those of this process.
        on_line: called from another thread with each line of its standard error as it arrives. If it fails, its
            output is read on, and that line is dropped.
        meanwhile: called about every CHECK_S seconds while it runs.
        check: whether a status other than 0 raises.
        if_missing: the hint if there is no such command.

    Raises:
        ConfigError: the command does not exist or cannot be run.
        CommandFailed: it ended with a status other than 0.
        DeadlinePassed: it did not end in time.
        Stopped: the run is cancelled; the command was ended.

    """
    try:
        ended = _run(
            argv, timeout_s=timeout_s, env=env, on_line=on_line, meanwhile=meanwhile, max_bytes=MAX_OUTPUT_BYTES
        )
    except (FileNotFoundError, PermissionError) as error:
        raise ConfigError(
            f"there is no command {argv[0]!r} on the operator that can be run.", hint=if_missing
        ) from error
    if ended.status is None:
        raise DeadlinePassed(
            f"`{argv[0]} {argv[1] if len(argv) > 1 else ''}` on the operator did not end within {timeout_s:.0f} s; "
            f"last seen: {ended.last_words() or 'nothing'}.",
            hint=f"Look at the run's log for what it was doing, then retry.{or_raise(timeout_s)}",
        )
    result = CommandResult(
        argv=tuple(argv),
        host=OPERATOR,
        exit_status=ended.status,
        stdout=ended.output.text(),
        stderr=ended.errors.text(),
        duration_s=ended.duration_s,
    )
    if check and result.exit_status:
        raise CommandFailed(result)
    return result


def read_local(argv: Sequence[str], *, timeout_s: float, max_bytes: int, folder: Path) -> bytes:
    """Run a command on the operator that prints a secret, and return its exact output. No error repeats any of it.

    Args:
        argv: the command; errors show only its first word.
        timeout_s: seconds after which its whole process group is ended.
        max_bytes: the most that it may print.
        folder: where it runs.

    Raises:
        ConfigError: the command cannot be run, failed, did not end in time, or printed nothing or too much.

    """
    name = f"`{argv[0]}` on the operator"
    try:
        ended = _run(argv, timeout_s=timeout_s, folder=folder, max_bytes=max_bytes)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "its arguments cannot be passed on"
        raise ConfigError(f"{name} cannot be run: {why}.", hint="Install it, or correct `command`.") from None
    if ended.status is None:
        raise ConfigError(
            f"{name} did not end within {timeout_s:.0f} s; last seen: {ended.last_words() or 'nothing'}.",
            hint="It has no terminal and no input: unlock first what it asks for.",
        )
    if ended.status:
        raise ConfigError(
            f"{name} ended with status {ended.status}: {ended.last_words(3) or '(no output)'}",
            hint="Run it by hand as the user of `just serve`, in the inventory's folder.",
        )
    content = ended.output.content()
    if ended.output.dropped_bytes or not content:
        printed = f"more than {max_bytes} bytes" if content else "nothing"
        raise ConfigError(f"{name} printed {printed}.", hint="It must print the secret and nothing else.")
    return content


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a command ended; the status is None if it reached its deadline."""

    status: int | None
    output: Tail
    errors: Tail
    duration_s: float

    def last_words(self, lines: int = 1) -> str:
        """Return the last lines of its standard error, joined into one."""
        return " | ".join(line.strip()[:200] for line in self.errors.text().strip().splitlines()[-lines:])


def _run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    max_bytes: int,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> _Ended:
    """Run a command to its end. Raises OSError: it cannot be started."""
    began = clock.monotonic()
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    output, errors = Tail(max_bytes), Tail(MAX_OUTPUT_BYTES)
    status: int | None = None
    with process:
        readers = [
            threading.Thread(target=_drain, args=(process.stdout, output, None), daemon=True),
            threading.Thread(target=_drain, args=(process.stderr, errors, on_line), daemon=True),
        ]
        for reader in readers:
            reader.start()
        try:
            status = _wait(process, timeout_s, meanwhile or (lambda: None))
        finally:
            # After success too: a process that it left in the background would keep its output open.
            _end(process)
            for reader in readers:
                reader.join()
    if status is not None and status < 0:
        status = 128 - status
    return _Ended(status, output, errors, clock.monotonic() - began)


def _wait(process: subprocess.Popen[bytes], timeout_s: float, meanwhile: Callable[[], None]) -> int | None:
    """Return how it ended; None if it did not end in time. Raises Stopped: the run is cancelled."""
    left_s = timeout_s
    while left_s > 0:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=min(CHECK_S, left_s))
        checked_at = clock.monotonic()
        brake.check()
        meanwhile()
        left_s -= CHECK_S + clock.monotonic() - checked_at
    return process.poll()


def _drain(stream: IO[bytes], into: Tail, on_line: Callable[[str], None] | None) -> None:
    # Nobody else reads: if a failed report ended this, the command would write until the pipe is full, and hang.
    lines = LineSplitter(never_failing(on_line, "a command's line")) if on_line else None
    # `read1` passes a line on when it arrives; `read` would wait until the buffer is full.
    while chunk := stream.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
        into.feed(chunk)
        if lines:
            lines.feed(chunk)
    if lines:
        lines.feed(b"", last=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process group: SIGTERM first, then SIGKILL."""
    for signal_, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        try:
            os.killpg(process.pid, signal_)
        except (ProcessLookupError, PermissionError):
            return
        if process.poll() is not None and signal_ == signal.SIGTERM:
            # Only its children are left: they get a moment, then SIGKILL.
            wait_s = 0.1
        ends = clock.monotonic() + wait_s
        while clock.monotonic() < ends and _alive(process):
            clock.sleep(0.02)


def _alive(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
