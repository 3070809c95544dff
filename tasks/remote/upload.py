"""Files on their way to the target: resumed after a cut, checked by content, sent only once."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from tasks.model.command import CommandResult
from tasks.model.errors import NotTrusted
from tasks.remote.deadline import Deadline

PIECE_BYTES: Final = 256 * 1024
REPORT_EVERY_S: Final = 0.5

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
# $1 place, $2 bytes of the part to keep. What is sent is appended to them.
_APPEND: Final = """
set -eu
umask 077
if [ "$2" -eq 0 ]; then rm -f "$1.part"; fi
cat >> "$1.part"
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
        if time.monotonic() - told_at > REPORT_EVERY_S:
            report(done, size)
            told_at = time.monotonic()
        yield piece
        done += len(piece)
