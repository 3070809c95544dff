"""Runs a command on the operator: streamed, with a deadline, and ended with all that it started."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Final

from tasks.model.command import CommandResult
from tasks.model.errors import CommandFailed, ConfigError, DeadlinePassed
from tasks.remote.text import Lines, Tail

OPERATOR: Final = "operator"
MAX_OUTPUT_BYTES: Final = 16 * 1024 * 1024
# Between the polite signal and the other one.
GRACE_S: Final = 5.0
CHUNK_BYTES: Final = 65536


def run_local(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    check: bool = True,
) -> CommandResult:
    """Run a command here and wait for its end.

    Args:
        argv: the command; holds no secret.
        timeout_s: seconds after which it is ended, with its whole process group.
        env: variables on top of this process's own.
        on_line: called with each line of its standard error, as it comes, from another thread.
        check: raise if it ends with another status than 0.

    Raises:
        ConfigError: there is no such command.
        CommandFailed: it ended with another status than 0.
        DeadlinePassed: it did not end in time.

    """
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise ConfigError(
            f"there is no command {argv[0]!r} on the operator that can be run.",
            hint=f"Install it, or name its path in HOLDFAST_{'NIX' if 'nix' in argv[0] else 'TAILSCALE'}.",
        ) from error
    output, errors = Tail(MAX_OUTPUT_BYTES), Tail(MAX_OUTPUT_BYTES)
    with process:
        readers = [
            threading.Thread(target=_drain, args=(process.stdout, output, None), daemon=True),
            threading.Thread(target=_drain, args=(process.stderr, errors, on_line), daemon=True),
        ]
        for reader in readers:
            reader.start()
        try:
            status = process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            said = errors.text().strip().splitlines()
            raise DeadlinePassed(
                f"`{argv[0]} {argv[1] if len(argv) > 1 else ''}` on the operator did not end within {timeout_s:.0f} s; "
                f"last seen: {said[-1][:200] if said else 'nothing'}.",
                hint="Look at the run's log for what it was doing; the deadlines are in the inventory.",
            ) from error
        finally:
            # Also when all went well: what it left in the background would hold its output open.
            _end(process)
            for reader in readers:
                reader.join()
    result = CommandResult(
        argv=tuple(argv),
        host=OPERATOR,
        exit_status=status if status >= 0 else 128 - status,
        stdout=output.text(),
        stderr=errors.text(),
        duration_s=time.monotonic() - began,
    )
    if check and result.exit_status:
        raise CommandFailed(result)
    return result


def _drain(stream: IO[bytes], into: Tail, on_line: Callable[[str], None] | None) -> None:
    lines = Lines(on_line) if on_line else None
    # `read1`, so that a line is handed on when it comes and not when the buffer is full.
    while chunk := stream.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
        into.feed(chunk)
        if lines:
            lines.feed(chunk)
    if lines:
        lines.feed(b"", last=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process group, politely first."""
    for signal_, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        try:
            os.killpg(process.pid, signal_)
        except (ProcessLookupError, PermissionError):
            return
        if process.poll() is not None and signal_ == signal.SIGTERM:
            # Only stragglers are left; they get a moment, and then the other signal.
            wait_s = 0.1
        ends = time.monotonic() + wait_s
        while time.monotonic() < ends and _alive(process):
            time.sleep(0.02)


def _alive(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
