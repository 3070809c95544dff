"""The lab's cache: what takes long to build is built once for each version of what it is built from."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

Part: TypeAlias = str | Path | tuple[str, ...]
"""Something that a build depends on: a text, a file or folder, or the entries of a list."""


def cache_dir() -> Path:
    """Return the folder where the lab keeps what it built: `$HOLDFAST_LAB_CACHE`, else `~/.cache/holdfast/lab`."""
    chosen = os.environ.get("HOLDFAST_LAB_CACHE")
    path = Path(chosen) if chosen else Path.home() / ".cache" / "holdfast" / "lab"
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(parts: Sequence[Part]) -> str:
    """Return a digest of what a build depends on.

    Files and folders count by their content. A list counts by its entries, so its comments may change.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
            for file in files:
                total.update(file.relative_to(part.parent).as_posix().encode() + b"\0")
                total.update(hashlib.sha256(file.read_bytes()).digest())
        elif isinstance(part, tuple):
            # As one text: an entry that moves from one list to the next has to change the digest.
            total.update("\n".join(part).encode() + b"\0")
        else:
            total.update(part.encode() + b"\0")
    return total.hexdigest()[:16]


def cached(kind: str, parts: Sequence[Part], build: Callable[[Path], None]) -> Path:
    """Return the folder `kind-DIGEST` of the cache; build it first if it is not there.

    Two checkouts may ask at once: the second waits for the first. A build that fails leaves nothing behind.

    Args:
        kind: what is built, for the folder's name (`origin-disk`).
        parts: everything that the build depends on, see `digest`.
        build: fills the empty folder that it gets.

    """
    place = cache_dir() / f"{kind}-{digest(parts)}"
    if place.is_dir():
        return place
    with (cache_dir() / f".{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir():
            return place
        for abandoned in cache_dir().glob(f".{kind}-{'?' * 8}"):  # by a build that was killed; we hold the lock
            if abandoned.is_dir():  # and not the lock of a kind whose name begins as this one's
                shutil.rmtree(abandoned)
        fresh = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=cache_dir()))
        try:
            fresh.chmod(0o755)
            build(fresh)
            fresh.rename(place)
        finally:
            if fresh.exists():
                shutil.rmtree(fresh)
    return place
