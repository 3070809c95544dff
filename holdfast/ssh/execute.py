"""One command on an open link: its streams, its deadline, its end."""

import contextlib
import select
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import paramiko

from holdfast.base import clock
from holdfast.base.deadline import Deadline, or_raise
from holdfast.base.errors import DeadlinePassed, HoldfastError
from holdfast.base.text import LineSplitter, Tail, printable
from holdfast.ssh import counting
from holdfast.ssh.elevation import Gate
from holdfast.ssh.link import Link

PACKET_BYTES: Final = 32768
# A background child may hold the output open after the command has ended; nobody waits longer for it.
LINGER_S: Final = 3
# A shell's exit statuses for a command that one of the kernel's 64 signals ended.
KILLED_STATUSES: Final = range(129, 193)

# $1 the process that a command began as. Kills its process group, the third field after the name in proc(5).
_KILL: Final = 'read -r stat < "/proc/$1/stat"; set -- ${stat##*) }; kill -KILL "-$3"'
KILL_WITHIN_S: Final = 5


class _CallersOwn(Exception):
    """An error from the caller's callback or input, not from the link."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command as it goes over the wire.

    Attributes:
        command: the line for the login's shell, quoted.
        name: the command in messages; holds no secret.
        stdin: its standard input in pieces.
        gate: opens when the command has begun; only then it gets its standard input.

    """

    command: str
    name: str
    stdin: Iterator[bytes]
    gate: Gate


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        exit_status: 0 to 255.
        stdout: its standard output, or the end of it.
        stderr: likewise.
        duration_s: seconds from start to end.

    """

    exit_status: int
    stdout: Tail
    stderr: Tail
    duration_s: float


def execute(
    link: Link, job: Job, *, deadline: Deadline, on_line: Callable[[str], None] | None, max_output_bytes: int
) -> Ended:
    """Run a command to its end.

    Raises:
        DeadlinePassed: it did not end in time; it was killed on the target, if that was possible.
        ConnectionLost: the link broke, or the target ended the session, before there was an exit status.
        LoginRefused: it never began: the login cannot become root, or has no shell.

    """
    began = clock.monotonic()
    with link.bounded(deadline):
        try:
            channel = link.transport.open_session(timeout=deadline.timeout_s())
            with channel:
                counting.add(commands=1)
                running = _Running(link, channel, job, on_line, max_output_bytes)
                channel.exec_command(job.command)
                running.until(deadline)
        except _CallersOwn as error:
            raise error.args[0] from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            if deadline.passed():
                raise _late(link, job, deadline) from error
            raise link.lost(job.name) from error
        except DeadlinePassed:
            _kill(link, job.gate)
            raise
    return Ended(channel.exit_status, running.stdout, running.stderr, clock.monotonic() - began)


def _kill(link: Link, gate: Gate) -> None:
    """Kill a command's process group; what has left the group runs on.

    Not by SSH's own signal request, which sshd refuses for root.
    """
    argv = ["sh", "-c", _KILL, "kill", gate.process]
    again = gate.again()
    job = Job(command=shlex.join(again.command(argv)), name="kill", stdin=iter(()), gate=again)
    if gate.open:
        with contextlib.suppress(HoldfastError):
            execute(link, job, deadline=Deadline.after(KILL_WITHIN_S), on_line=None, max_output_bytes=1000)


def _late(link: Link, job: Job, deadline: Deadline, last: str = "") -> DeadlinePassed:
    seen = f"; its last line was: {last}" if last else ""
    return DeadlinePassed(
        f"`{job.name}` on {link.endpoint} did not end within {deadline.allowed_s:g} s{seen}.",
        hint=f"Find out why it takes so long there, then retry.{or_raise(deadline.allowed_s)}",
    )


class _Running:
    """The state of a command between its start and its end."""

    def __init__(
        self,
        link: Link,
        channel: paramiko.Channel,
        job: Job,
        on_line: Callable[[str], None] | None,
        max_output_bytes: int,
    ) -> None:
        self._link, self._channel, self._job = link, channel, job
        self.stdout, self.stderr = Tail(max_output_bytes), Tail(max_output_bytes)
        self._latest = self.stdout
        self._on_line = on_line or (lambda _line: None)
        self._out_lines, self._err_lines = LineSplitter(self._hand_on), LineSplitter(self._hand_on)
        self._wants_lines = on_line is not None
        self._pending = b""
        self._stdin_open = True
        self._ended_at: float | None = None
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)

    def _hand_on(self, line: str) -> None:
        try:
            self._on_line(line)
        except Exception as error:
            raise _CallersOwn(error) from error

    def _last_line(self) -> str:
        lines = self._latest.content()[-200:].decode("utf-8", "replace").strip().splitlines()
        return printable(lines[-1]) if lines else ""

    def until(self, deadline: Deadline) -> None:
        """Move bytes in all directions until the command has ended."""
        while not self._over():
            if deadline.passed():
                raise _late(self._link, self._job, deadline, self._last_line())
            read = self._read()
            if self._may_send():
                self._send()
            elif not read:
                self._pause(deadline)
        self._out_lines.feed(b"", last=True)
        self._err_lines.feed(b"", last=True)
        if self._channel.exit_status < 0:
            # Only a session that was torn down has no exit status: see the wrapper in elevation.py.
            raise self._link.lost(self._job.name)
        if not self._job.gate.open:
            if self._channel.exit_status in KILLED_STATUSES:
                # It ended sudo, or the shell: a target that goes down kills everything that a login runs.
                raise self._link.lost(self._job.name, "a signal ended it before it began")
            raise self._job.gate.refused()

    def _over(self) -> bool:
        channel = self._channel
        if channel.recv_ready() or channel.recv_stderr_ready():
            # The output of a background child that never stops writing is read only for LINGER_S.
            return self._lingered()
        return channel.closed or (channel.exit_status >= 0 and (bool(channel.eof_received) or self._lingered()))

    def _lingered(self) -> bool:
        if self._channel.exit_status < 0 or self._channel.eof_received:
            return False
        if self._ended_at is None:
            self._ended_at = clock.monotonic()
        return clock.monotonic() - self._ended_at > LINGER_S

    def _read(self) -> bool:
        """Take what has arrived; return whether there was anything."""
        out = self._channel.recv(PACKET_BYTES) if self._channel.recv_ready() else b""
        err = self._channel.recv_stderr(PACKET_BYTES) if self._channel.recv_stderr_ready() else b""
        if err and not self._job.gate.open:
            answer, err = self._job.gate.take(err)
            if answer:
                self._channel.sendall(answer)
        self.stdout.feed(out)
        self.stderr.feed(err)
        if out or err:
            self._latest = self.stderr if err else self.stdout
        if self._wants_lines:  # escaping every character of a long binary output would take minutes
            self._out_lines.feed(out)
            self._err_lines.feed(err)
        return bool(out or err)

    def _may_send(self) -> bool:
        return self._stdin_open and self._job.gate.open and self._channel.exit_status < 0 and not self._channel.closed

    def _send(self) -> None:
        if not self._pending:
            try:
                self._pending = next(self._job.stdin, b"")
            except Exception as error:
                raise _CallersOwn(error) from error
            if not self._pending:
                self._stdin_open = False
                self._channel.shutdown_write()
                return
        # Short, so that output is read and the deadline checked while the other side accepts no more.
        self._channel.settimeout(0.05)
        try:
            self._pending = self._pending[self._channel.send(self._pending[:PACKET_BYTES]) :]
        except TimeoutError:
            pass
        except OSError:
            # A command may end without reading all its input: then its exit status counts, unless the link broke.
            if not self._channel.closed:
                raise
            self._stdin_open = False

    def _pause(self, deadline: Deadline) -> None:
        if self._channel.eof_received:
            # The channel stays readable from now on, so poll would not wait.
            clock.sleep(0.02)
        else:
            self._poll.poll(1000 * min(0.2, deadline.left_s()))
