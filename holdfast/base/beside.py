"""Starts work in a thread of its own, beside the work that goes on."""

import threading
from collections.abc import Callable

from holdfast.base import brake


def start(work: Callable[[], None], name: str) -> threading.Event:
    """Start `work` in a thread that ends with this process. Return what is set once it has ended.

    It has this thread's context, but no brake: a run is stopped in its own thread, or else nobody would hear of it.

    Args:
        work: the work. It must catch its own errors.
        name: the thread's name.

    """
    ended = threading.Event()
    context = brake.context_without()

    def run() -> None:
        try:
            context.run(work)
        finally:
            ended.set()

    threading.Thread(target=run, daemon=True, name=name).start()
    return ended
