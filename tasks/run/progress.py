"""A progress artifact in the run's UI."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from holdfast.base import clock

# Each update is a request to the Prefect server.
UPDATE_S: Final = 5.0


@contextmanager
def progress(key: str, description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress artifact while the body runs. The value is a function that takes (done, total), in any unit."""
    # Prefect types it as either; outside async code it is the id.
    artifact = cast("UUID", create_progress_artifact(progress=0.0, key=key, description=description))
    shown_at = clock.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal shown_at
        if total > 0 and clock.monotonic() - shown_at >= UPDATE_S:
            shown_at = clock.monotonic()
            update_progress_artifact(artifact, progress=min(100.0, 100.0 * done / total))

    yield report
    update_progress_artifact(artifact, progress=100.0)
