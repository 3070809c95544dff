"""Units of size."""

from typing import Final

MIB: Final = 1024 * 1024


def gib(size_bytes: int) -> str:
    """Return a size in GiB, for people."""
    return f"{size_bytes / 1024**3:.1f} GiB"
