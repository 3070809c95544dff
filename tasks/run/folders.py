"""The folders of the runs: the oldest are removed, and with them what they keep from Nix's garbage collection."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID

from holdfast.base import clock
from tasks.run.journal import Journal

# No phase, nor a wait for an approval, is silent for so long: a run without a report lost its process.
DEAD_AFTER_S: Final = 30 * 86400.0


def prune(runs_dir: Path, *, keep: int, mine: str) -> None:
    """Remove the folders of the oldest runs. A run that has not ended is kept.

    A run has ended if it has a report, which it loses when it starts again, or if nothing was written for DEAD_AFTER_S.

    Args:
        runs_dir: folder of all runs.
        keep: how many to keep.
        mine: id of the run that asks; it is kept, and counts.

    """
    written = {folder: _written_at(folder) for folder in runs_dir.iterdir() if _is_run(folder) and folder.name != mine}
    newest_first = sorted(written, key=lambda folder: written[folder], reverse=True)
    for folder in newest_first[keep - 1 :]:
        if Journal(folder).report.exists() or clock.now() - written[folder] > DEAD_AFTER_S:
            shutil.rmtree(folder, ignore_errors=True)


def _is_run(folder: Path) -> bool:
    try:
        UUID(folder.name)
    except ValueError:
        return False
    return folder.is_dir() and not folder.is_symlink()


def _written_at(folder: Path) -> float:
    """Return when a run last wrote something, in seconds since 1970; 0 if it was removed meanwhile."""
    times = [0.0]
    for name in ("", "journal.jsonl", "output.log", "report.json"):
        with suppress(FileNotFoundError):
            times.append((folder / name).stat().st_mtime)
    return max(times)
