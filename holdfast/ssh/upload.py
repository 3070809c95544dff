"""Uploads to the target: resumed after a cut, checked by content, sent only once."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from holdfast.base import brake, clock
from holdfast.base.deadline import Deadline
from holdfast.base.errors import NotTrusted, Unreachable
from holdfast.base.log import never_failing
from holdfast.base.settings import script
from holdfast.base.waiting import wait_for
from holdfast.ssh.connection import Connection

PIECE_BYTES: Final = 256 * 1024
REPORT_EVERY_S: Final = 0.5
# Before the next link, so that links which break at once are not opened without a pause.
RECONNECT_PAUSE_S: Final = 2.0


def upload_over_links(
    reconnect: Callable[[], Connection],
    local: Path,
    remote: str,
    *,
    timeout_s: float,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Upload a file as `upload` does, and reconnect as often as the link breaks.

    Args:
        reconnect: opens a connection; called again when the link broke.
        local: the file here.
        remote: an absolute path in an existing folder.
        timeout_s: seconds that it may take, reconnecting included.
        on_line: called with a line when the link breaks or does not come back.
        on_progress: see upload.

    Raises:
        DeadlinePassed: it took too long, or the link did not come back.
        NotTrusted, CommandFailed, LoginRefused: see upload.
        Stopped: the run is cancelled; what arrived is kept.

    """
    deadline = Deadline.after(timeout_s)
    while True:
        target = wait_for(
            f"a connection to upload {local.name}", reconnect, deadline_s=deadline.left_s(), on_change=on_line
        )
        try:
            with target:
                upload(target, local, remote, deadline=deadline, on_progress=on_progress)
                return
        except Unreachable as error:
            if deadline.passed():
                raise
            on_line(f"{error.message} What arrived is kept; reconnecting, for at most {deadline.left_s():.0f} s.")
            clock.sleep(min(RECONNECT_PAUSE_S, deadline.left_s()))


def upload(
    target: Connection,
    local: Path,
    remote: str,
    *,
    deadline: Deadline,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Upload a file as root, with mode 0600.

    Nothing is sent if the target has the content already. What an earlier attempt left in `REMOTE.part` is used if it
    is the beginning of this file. `REMOTE` appears only after the whole content was checked there.

    Args:
        target: the connection.
        local: the file here.
        remote: an absolute path in an existing folder.
        deadline: for the whole upload.
        on_progress: called about twice a second with the bytes on the target and the bytes in all; the first time
            before anything is sent.

    Raises:
        NotTrusted: what arrived has another sha256; it was removed.
        CommandFailed: the target cannot store it.
        DeadlinePassed, ConnectionLost, LoginRefused: see execute.execute; the next attempt continues from there.

    """
    report = never_failing(on_progress or (lambda _done, _total: None), "the progress of an upload")
    size = local.stat().st_size
    with local.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        there = _run(target, "upload-look.sh", [remote, str(size)], deadline).split()
        if there == ["done", sha256]:
            report(size, size)
            return
        if there == ["part", str(size), sha256]:  # all of it, checked just now
            target.run(["mv", "-f", f"{remote}.part", remote], timeout_s=deadline.timeout_s())
            report(size, size)
            return
        kept = _usable(there, file, size)
        report(kept, size)
        file.seek(kept)
        argv = ["sh", "-c", script("any/upload-append.sh"), "upload-append.sh", remote, str(kept)]
        target.stream(argv, _pieces(file, kept, size, report), timeout_s=deadline.left_s())
    seen = _run(target, "upload-finish.sh", [remote, sha256], deadline).strip()
    if seen != sha256:
        raise NotTrusted(
            f"{local} arrived as {remote} with another sha256: {seen[:64]!r}, expected {sha256}.",
            hint="It was removed. Try again; if it happens again, test the target's memory and disk.",
        )
    report(size, size)


def _run(target: Connection, name: str, args: Sequence[str], deadline: Deadline) -> str:
    return target.run(["sh", "-c", script(f"any/{name}"), name, *args], timeout_s=deadline.timeout_s()).stdout


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
        brake.check()
        if clock.monotonic() - told_at > REPORT_EVERY_S:
            report(done, size)
            told_at = clock.monotonic()
        yield piece
        done += len(piece)
