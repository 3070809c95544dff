"""A progress artifact in the run's UI.

A thread of its own sends it, so that no work waits for the Prefect server: whoever calls `report` may be the only one
that reads a command's output, and a server that is away lets each request wait for minutes.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Final, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from holdfast.base import clock
from tasks.run.log import warn

# Each update is a request to the Prefect server.
UPDATE_S: Final = 5.0
# How long the end of the work waits for the last request; without an answer then, it is dropped.
LAST_S: Final = 10.0


@contextmanager
def progress(key: str, description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress artifact while the body runs. The value is a function that takes (done, total), in any unit.

    An update that fails is dropped, and the first one is warned of: the body goes on.
    """
    updates: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    sender = threading.Thread(target=copy_context().run, args=(_send, key, description, updates), daemon=True)
    updates.put(0.0)
    sender.start()
    shown_at = clock.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal shown_at
        if total > 0 and clock.monotonic() - shown_at >= UPDATE_S:
            shown_at = clock.monotonic()
            updates.put(min(100.0, 100.0 * done / total))

    try:
        yield report
        updates.put(100.0)
    finally:
        updates.put(None)
        sender.join(LAST_S)


def _send(key: str, description: str, updates: queue.SimpleQueue[float | None]) -> None:
    """Make the artifact and send what arrives, only the newest of several, until None arrives."""
    artifact: UUID | None = None
    warned = False
    while (value := updates.get()) is not None:
        ends = False
        while not updates.empty():
            newer = updates.get()
            ends = newer is None
            value = value if newer is None else newer
        try:
            if artifact is None:
                # Prefect types it as either; outside async code it is the id.
                artifact = cast("UUID", create_progress_artifact(progress=value, key=key, description=description))
            else:
                update_progress_artifact(artifact, progress=value)
        except Exception as error:  # noqa: BLE001  whatever Prefect raises, only the display is lost
            if not (warned or ends):
                warned = True
                warn(f"the progress cannot be shown, and the work goes on: {type(error).__name__}: {str(error)[:200]}")
        if ends:
            return
