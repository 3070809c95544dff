"""The lab's cache: what is costly to make is made once for each version of what it is made from."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


def cache_dir() -> Path:
    """Return where the lab keeps what it built: `$HOLDFAST_LAB_CACHE`, else `~/.cache/holdfast/lab`."""
    chosen = os.environ.get("HOLDFAST_LAB_CACHE")
    path = Path(chosen) if chosen else Path.home() / ".cache" / "holdfast" / "lab"
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(parts: Sequence[str | Path]) -> str:
    """Digest what a build depends on: texts as they are, files and folders by their content."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
            for file in files:
                total.update(file.relative_to(part.parent).as_posix().encode() + b"\0")
                total.update(hashlib.sha256(file.read_bytes()).digest())
        else:
            total.update(part.encode() + b"\0")
    return total.hexdigest()[:16]


def cached(kind: str, parts: Sequence[str | Path], build: Callable[[Path], None]) -> Path:
    """Return the folder `kind-DIGEST` of the cache, and build it first if it is not there.

    Two checkouts may ask at once: the second waits for the first. A build that fails leaves nothing.

    Args:
        kind: what it is, for the folder's name (`origin-disk`).
        parts: everything that it depends on, see `digest`.
        build: fills the empty folder that it is given.

    """
    place = cache_dir() / f"{kind}-{digest(parts)}"
    if place.is_dir():
        return place
    with (cache_dir() / f".{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir():
            return place
        for abandoned in cache_dir().glob(f".{kind}-{'?' * 8}"):  # by a build that was killed: we hold the lock
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
