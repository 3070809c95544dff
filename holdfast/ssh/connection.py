"""The SSH boundary: argv in, CommandResult out."""

import dataclasses
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from holdfast.base.command import CommandResult
from holdfast.base.deadline import Deadline
from holdfast.base.errors import CommandFailed, UnexpectedState
from holdfast.base.process import MAX_OUTPUT_BYTES
from holdfast.base.settings import script
from holdfast.ssh.elevation import Gate
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.execute import Ended, Job, execute
from holdfast.ssh.link import Link, open_link


class Connection:
    """A connection to a target; a context manager. Made by `open_connection`. For one thread at a time.

    Attributes:
        endpoint: where it leads.
        host_key: `TYPE BASE64`, the key that answered.
        login_key: see login.LoggedIn.key.
        boot_id: the boot that was seen over it, which it does not outlive; empty while nobody has asked.
        kept_by: takes it when its user is done with it; None closes it then.

    """

    boot_id: str = ""
    kept_by: "Callable[[Connection], None] | None" = None

    def __init__(self, link: Link) -> None:
        self._link = link
        self.endpoint = link.endpoint
        self.host_key = str(link.host_key)
        self.login_key = link.logged_in.key

    @property
    def link(self) -> Link:
        """The link itself: how it got in, for another program that takes the same way."""
        return self._link

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.done()
        else:
            self.close()

    def done(self) -> None:
        """Give it back to whoever keeps it, or else close it."""
        if self.kept_by is None:
            self.close()
        else:
            self.kept_by(self)

    def answers(self) -> bool:
        """Return whether the other side still answers. Starts no process there."""
        return self._link.answers()

    def close(self) -> None:
        """End the connection and the proxy that carries it."""
        self._link.close()

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes | None = None,
        on_line: Callable[[str], None] | None = None,
        check: bool = True,
        root: bool = True,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
    ) -> CommandResult:
        """Run a command on the target.

        Args:
            argv: the command; quoted here, so that no argument is read as shell. Visible in the target's
                process list, so never a secret.
            timeout_s: seconds that it may take, whether it writes or not.
            stdin: its whole standard input; None means empty.
            on_line: called with every line of both outputs, with control characters escaped.
            check: True raises CommandFailed if the status is not 0; False returns the result.
            root: True runs it as root, by the endpoint's elevation if the login is another user; False as the login.
            max_output_bytes: how much of each output is kept: its end, with a first line that says what was dropped.

        Raises:
            CommandFailed: its status is not 0 and `check` is set.
            DeadlinePassed, ConnectionLost, LoginRefused: see execute.execute.

        """
        ended = self._execute(
            argv,
            timeout_s=timeout_s,
            stdin=iter((stdin,) if stdin else ()),
            on_line=on_line,
            root=root,
            max_output_bytes=max_output_bytes,
        )
        result = self._result(argv, ended)
        if check and result.exit_status:
            raise CommandFailed(result)
        return result

    def run_script(
        self,
        script: str,
        args: Sequence[str] = (),
        *,
        timeout_s: float,
        on_line: Callable[[str], None] | None = None,
        check: bool = True,
        root: bool = True,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
    ) -> CommandResult:
        """Run a POSIX sh script, which travels on standard input; otherwise as `run`.

        Commands in the script must not read standard input: they would consume the rest of the script.
        """
        return self.run(
            ["sh", "-s", "--", *args],
            timeout_s=timeout_s,
            stdin=script.encode(),
            on_line=on_line,
            check=check,
            root=root,
            max_output_bytes=max_output_bytes,
        )

    def read_output(self, argv: Sequence[str], *, max_bytes: int, timeout_s: float) -> bytes:
        """Run a command as root and return its standard output, byte for byte; no error quotes it.

        Raises:
            UnexpectedState: it is longer than `max_bytes`.
            CommandFailed: its status is not 0.
            DeadlinePassed, ConnectionLost, LoginRefused: see execute.execute.

        """
        ended = self._execute(
            argv, timeout_s=timeout_s, stdin=iter(()), on_line=None, root=True, max_output_bytes=max_bytes
        )
        if ended.exit_status:
            raise CommandFailed(dataclasses.replace(self._result(argv, ended), stdout=""))
        content = ended.stdout.content()
        if ended.stdout.dropped_bytes:
            raise UnexpectedState(
                f"`{_named(argv)}` on {self.endpoint.host} wrote more than {max_bytes} bytes.",
                hint="Look at it on the target: it is larger than it should be.",
            )
        return content

    def read_file(self, path: str, *, max_bytes: int, timeout_s: float) -> bytes:
        """Return a file's content, read as root. Raises as `read_output` does."""
        # With a redirection no path is taken for an option. One byte more shows that a file is too long.
        argv = ["sh", "-c", 'exec head -c "$1" < "$2"', "sh", str(max_bytes + 1), path]
        return self.read_output(argv, max_bytes=max_bytes, timeout_s=timeout_s)

    def write_file(
        self, path: str, data: bytes, *, mode: int, timeout_s: float, folder_mode: int | None = None
    ) -> None:
        """Write a file as root: from standard input into a file that only root can read, then renamed into place.

        Args:
            path: an absolute path.
            data: the content; may be secret.
            mode: permissions, as 0o600.
            timeout_s: seconds that it may take.
            folder_mode: makes its folder if that is missing, and gives it these permissions; None if it exists.

        Raises:
            CommandFailed: it could not be written, or not all of it arrived.
            DeadlinePassed, ConnectionLost, LoginRefused: see execute.execute.

        """
        argv = ["sh", "-c", script("any/write-file.sh"), "write-file.sh", path, f"{mode:o}", str(len(data))]
        argv += [] if folder_mode is None else [f"{folder_mode:o}"]
        self.run(argv, timeout_s=timeout_s, stdin=data)

    def stream(self, argv: Sequence[str], pieces: Iterable[bytes], *, timeout_s: float) -> CommandResult:
        """Run a command as root with a long standard input, given in pieces; otherwise as `run`."""
        ended = self._execute(
            argv,
            timeout_s=timeout_s,
            stdin=iter(pieces),
            on_line=None,
            root=True,
            max_output_bytes=MAX_OUTPUT_BYTES,
        )
        result = self._result(argv, ended)
        if result.exit_status:
            raise CommandFailed(result)
        return result

    def _execute(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: Iterator[bytes],
        on_line: Callable[[str], None] | None,
        root: bool,
        max_output_bytes: int,
    ) -> Ended:
        gate = Gate(self.endpoint, root=root)
        job = Job(command=shlex.join(gate.command(argv)), name=_named(argv), stdin=stdin, gate=gate)
        return execute(
            self._link,
            job,
            deadline=Deadline.after(timeout_s),
            on_line=on_line,
            max_output_bytes=max_output_bytes,
        )

    def _result(self, argv: Sequence[str], ended: Ended) -> CommandResult:
        return CommandResult(
            argv=tuple(argv),
            host=self.endpoint.host,
            exit_status=ended.exit_status,
            stdout=ended.stdout.text(),
            stderr=ended.stderr.text(),
            duration_s=ended.duration_s,
        )


def _named(argv: Sequence[str]) -> str:
    """Return the command for messages: one line, at most 120 characters."""
    return " ".join(shlex.join(argv).split())[:120]


def open_connection(endpoint: Endpoint, *, timeout_s: float) -> Connection:
    """Connect, verify the host key and log in within `timeout_s` seconds. Raises as link.open_link."""
    return Connection(open_link(endpoint, Deadline.after(timeout_s)))
