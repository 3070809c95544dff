"""A graph of what lies on what. It is made of a target's words, so it may be large, or have cycles."""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final

MAX_EDGES: Final = 16384


class Graph:
    """Nodes, and what each lies on: disks and partitions are at the bottom."""

    def __init__(self, bottom: Container[str]) -> None:
        """Make an empty graph.

        Args:
            bottom: the nodes that lie on nothing.

        """
        self._bottom = bottom
        self._below: dict[str, dict[str, None]] = {}
        self._edges = 0

    def put(self, node: str, below: str) -> None:
        """Add that a node lies on another; what is at the bottom lies on nothing."""
        if node in self._bottom or node == below or self._edges >= MAX_EDGES:
            return
        self._below.setdefault(node, {})[below] = None
        self._edges += 1

    def below(self, node: str) -> tuple[str, ...]:
        """Return what a node lies on directly."""
        return tuple(self._below.get(node, ()))

    def upwards(self) -> list[str]:
        """Return the nodes that lie on others, each after those that it lies on. A cycle is cut somewhere."""
        done: dict[str, None] = {}
        for start in self._below:
            begun: dict[str, Iterator[str]] = {} if start in done else {start: iter(self._below[start])}
            while begun:
                node = next(reversed(begun))
                for below in begun[node]:
                    if below in self._below and below not in done and below not in begun:
                        begun[below] = iter(self._below[below])
                        break
                else:
                    del begun[node]
                    done[node] = None
        return list(done)

    def handed_down(self, given: Mapping[str, Iterable[int]], most: int) -> dict[str, list[int]]:
        """Hand numbers down to all that a node lies on.

        Args:
            given: numbers of a node.
            most: how many a node keeps at most: the lowest.

        Returns:
            The numbers that each node was given or got from above, in order.

        """
        kept = {node: sorted(set(numbers))[:most] for node, numbers in given.items()}
        for node in reversed(self.upwards()):
            for below in self._below[node] if node in kept else ():
                kept[below] = sorted({*kept.get(below, ()), *kept[node]})[:most]
        return kept
