"""Counts what goes to targets in this process: SSH connections that were let in, and commands that were sent.

Each connection costs a target a key exchange and some processes, and each command some more; both cost round trips.
"""

import threading
from typing import NamedTuple


class Counts(NamedTuple):
    """How many there were.

    Attributes:
        connections: SSH connections that were let in, those of `nix copy` included.
        commands: commands that were sent over them, without those of `nix copy`.

    """

    connections: int = 0
    commands: int = 0

    def since(self, before: "Counts") -> "Counts":
        """Return how many there were since then."""
        return Counts(self.connections - before.connections, self.commands - before.commands)


_lock = threading.Lock()
_counts = Counts()


def counted() -> Counts:
    """Return how many there were since this process began."""
    return _counts


def add(*, connections: int = 0, commands: int = 0) -> None:
    """Count some more."""
    global _counts
    with _lock:
        _counts = Counts(_counts.connections + connections, _counts.commands + commands)
