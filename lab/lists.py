"""The lab's lists of packages and files: text files beside the code that uses them."""

from pathlib import Path


def entries(path: Path) -> tuple[str, ...]:
    """Return the entries of a list: one a line. Empty lines, and lines that begin with `#`, are for people."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
