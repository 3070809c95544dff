"""Brings a command's lines to the run's log file at once, and to Prefect in batches.

Prefect needs 47 s at a run's end for 20,000 single log lines, and cuts a message near 1 MB.
"""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

BATCH_LINES: Final = 100
BATCH_S: Final = 1.0


class Lines:
    """A context manager whose `add` takes a line; lines are expected to be free of control characters.

    Args:
        file: every line is appended to it.
        show: called with up to BATCH_LINES lines joined, at most about once in BATCH_S seconds.

    """

    def __init__(self, file: Path, show: Callable[[str], None]) -> None:
        self._file = file
        self._show = show
        self._waiting: list[str] = []
        self._shown_at = time.monotonic()

    def __enter__(self) -> Self:
        self._out = self._file.open("a")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._out.close()

    def add(self, line: str) -> None:
        """Take one line."""
        self._out.write(line + "\n")
        self._waiting.append(line)
        if len(self._waiting) >= BATCH_LINES or time.monotonic() - self._shown_at > BATCH_S:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._show("\n".join(self._waiting))
        self._out.flush()
        self._waiting.clear()
        self._shown_at = time.monotonic()
