"""Files on their way to the target: resumed after a cut, checked by content, sent only once."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol, Self

from holdfast.base import clock
from holdfast.base.command import CommandResult
from holdfast.base.deadline import Deadline
from holdfast.base.errors import NotTrusted, Unreachable
from holdfast.base.waiting import wait_for

PIECE_BYTES: Final = 256 * 1024
REPORT_EVERY_S: Final = 0.5
# Between a link that broke and the next one, so that links which break at once do not follow each other in haste.
PAUSE_S: Final = 2.0

# $1 place, $2 size. Says what is there already:
#   done SHA256          a file of that size
#   part BYTES SHA256    the beginning of one
#   nothing
_LOOK: Final = """
set -eu
sum() { sha256sum < "$1" | cut -d ' ' -f 1; }
size() { wc -c < "$1" | tr -d ' '; }
if [ -f "$1" ] && [ "$(size "$1")" -eq "$2" ]; then
  echo "done $(sum "$1")"
elif [ -f "$1.part" ] && [ ! -L "$1.part" ]; then
  echo "part $(size "$1.part") $(sum "$1.part")"
else
  echo nothing
fi
"""
# $1 place, $2 bytes of the part to keep. What is sent is written behind them: to a position, and not to the end, since
# an earlier sender that the target still believes in may have bytes on their way, which then overwrite their like.
_APPEND: Final = """
set -eu
umask 077
if [ "$2" -eq 0 ]; then rm -f "$1.part"; fi
exec 3<> "$1.part"
skip() { [ "$2" -eq 0 ] || dd bs="$1" count="$2" of=/dev/null <&3 2>/dev/null; }
skip 65536 $(($2 / 65536))
skip $(($2 % 65536 + ($2 % 65536 == 0))) $(($2 % 65536 != 0))
exec cat >&3
"""
# $1 place, $2 sha256. A part with another content is useless, and is not left behind.
_FINISH: Final = """
set -eu
seen=$(sha256sum < "$1.part" | cut -d ' ' -f 1)
if [ "$seen" != "$2" ]; then rm -f "$1.part"; echo "$seen"; exit 0; fi
mv -f "$1.part" "$1"
echo "$seen"
"""


class Target(Protocol):
    """What an upload needs of a Connection."""

    def run(self, argv: Sequence[str], *, timeout_s: float) -> CommandResult:
        """See Connection.run."""

    def stream(self, argv: Sequence[str], pieces: Iterator[bytes], *, timeout_s: float) -> CommandResult:
        """See Connection.stream."""


class OwnTarget(Target, Protocol):
    """A Target of one's own, which is closed after use."""

    def __enter__(self) -> Self:
        """See Connection."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See Connection."""


def upload_over_links(
    reconnect: Callable[[], OwnTarget],
    local: Path,
    remote: str,
    *,
    timeout_s: float,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Bring a file to the target as `upload` does, over as many links as that takes.

    Args:
        reconnect: opens a connection; called again whenever the link broke.
        local: the file here.
        remote: an absolute path in a folder that exists.
        timeout_s: seconds until it has to be there, reconnecting included.
        on_line: called with what happens to the link.
        on_progress: see upload.

    Raises:
        DeadlinePassed: it is not there in time, or the link did not come back.
        NotTrusted, CommandFailed, LoginRefused: see upload.

    """
    deadline = Deadline.after(timeout_s)
    while True:
        target = wait_for(
            f"a connection, to go on with {local.name}", reconnect, deadline_s=deadline.left_s(), on_change=on_line
        )
        try:
            with target:
                upload(target, local, remote, deadline=deadline, on_progress=on_progress)
                return
        except Unreachable as error:
            if deadline.passed():
                raise
            on_line(f"{error.message} What arrived stays there; connecting again.")
            clock.sleep(min(PAUSE_S, deadline.left_s()))


def upload(
    target: Target,
    local: Path,
    remote: str,
    *,
    deadline: Deadline,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Bring a file to the target, as root, with mode 0600.

    Nothing is sent if the target has that content. What an earlier attempt left in `REMOTE.part` is used if
    it is the beginning of this file. The name appears only after the whole content was checked there.

    Args:
        target: the connection.
        local: the file here.
        remote: an absolute path in a folder that exists.
        deadline: for all of it.
        on_progress: called with the bytes that are there and the bytes in all, about twice a second.

    Raises:
        NotTrusted: what arrived has another sha256; it was removed.
        CommandFailed: the target cannot store it.
        DeadlinePassed, ConnectionLost, LoginRefused: see execute.execute; the next
            attempt goes on from there.

    """
    report = on_progress or (lambda _done, _total: None)
    size = local.stat().st_size
    with local.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        there = _script(target, _LOOK, [remote, str(size)], deadline).split()
        if there == ["done", sha256]:
            report(size, size)
            return
        kept = _usable(there, file, size)
        file.seek(kept)
        argv = ["sh", "-c", _APPEND, "append", remote, str(kept)]
        target.stream(argv, _pieces(file, kept, size, report), timeout_s=deadline.left_s())
    seen = _script(target, _FINISH, [remote, sha256], deadline).strip()
    if seen != sha256:
        raise NotTrusted(
            f"{local} arrived as {remote} with another sha256 ({seen[:64]!r} for {sha256}).",
            hint="It was removed. Try again; if it happens again, test the target's memory and disk.",
        )
    report(size, size)


def _script(target: Target, script: str, args: Sequence[str], deadline: Deadline) -> str:
    return target.run(["sh", "-c", script, "upload", *args], timeout_s=max(deadline.left_s(), 0.1)).stdout


def _usable(there: Sequence[str], file: BinaryIO, size: int) -> int:
    """Return how many bytes on the target are the beginning of this file; 0 if they are something else."""
    match there:
        case ["part", count, sha256] if count.isdecimal() and 0 < int(count) <= size:
            file.seek(0)
            digest = hashlib.sha256()
            left = int(count)
            while left and (piece := file.read(min(left, PIECE_BYTES))):
                digest.update(piece)
                left -= len(piece)
            return int(count) if digest.hexdigest() == sha256 else 0
    return 0


def _pieces(file: BinaryIO, done: int, size: int, report: Callable[[int, int], None]) -> Iterator[bytes]:
    told_at = 0.0
    while piece := file.read(PIECE_BYTES):
        if clock.monotonic() - told_at > REPORT_EVERY_S:
            report(done, size)
            told_at = clock.monotonic()
        yield piece
        done += len(piece)
