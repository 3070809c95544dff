"""Meets a machine that is away, as soon as it answers: attempts overlap, and each asks only who answers."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Self

from holdfast.base import clock
from holdfast.base.overlap import Overlapping
from holdfast.base.settings import script
from holdfast.base.waiting import NotYet
from holdfast.facts.identity import Identity, parse_status
from holdfast.ssh.connection import Connection
from holdfast.ssh.reach import is_over_local
from holdfast.target.machine import Machine

# Between a meeting with another system than the awaited one, and the next.
PAUSE_S: Final = 0.3
WHO_S: Final = 60
_LINE: Final = re.compile(r"^who 1 ([0-9a-f-]{36}) (yes|no)$", re.MULTILINE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Who:
    """What a machine answers at once. It proves nothing: it tells when the full facts are worth the time.

    Attributes:
        boot_id: its boot; empty if it did not say.
        marked: whether it is an installer with a mark.
        node: which node it is; None if it was not asked, or is none yet.

    """

    boot_id: str = ""
    marked: bool = False
    node: Identity | None = None


@dataclass(frozen=True, slots=True)
class Met:
    """A machine that answers.

    Attributes:
        target: the connection to it.
        who: what it said.
        at: when it said so, in seconds since 1970.

    """

    target: Connection
    who: Who
    at: float


class Returning:
    """Attempts to meet a machine; a context manager.

    Args:
        machine: the machine; whichever boot answers, over the ways of Machine.connect.

    Attributes:
        asks_node: whether each attempt also asks which node it is, which starts a program of some size.

    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._attempts = Overlapping(self._attempt, _close, machine.host.name)
        self._kept: Met | None = None
        self.asks_node = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._attempts.__exit__()
        if self._kept is not None:
            self._kept.target.close()

    @contextmanager
    def meet(self) -> Iterator[Met]:
        """Wait until it answers, whoever that is; the connection is open while the body runs.

        If the body raises NotYet, the same connection is used the next time, while the other side answers. One to the
        inventory's `local` is not: the machine may answer at its target by then.

        Raises:
            Unreachable: it does not answer. Attempts are still under way, and the next call may meet it at once.
            LoginRefused, NotTrusted: see reach.connect.

        """
        met = self._attempts.first()
        try:
            yield met
        except NotYet:
            if is_over_local(met.target, self._machine.host):
                met.target.close()
            else:
                self._kept = met
            raise
        except BaseException:
            met.target.close()
            raise
        else:
            met.target.done()

    def _attempt(self) -> Met:
        kept, self._kept = self._kept, None
        if kept is not None:
            if kept.target.answers():
                # Another boot would not answer here: only what may have changed on this one is asked again.
                return self._ask(kept.target) if self.asks_node else replace(kept, at=clock.now())
            kept.target.close()  # that system is gone
        return self._ask(self._machine.connect())

    def _ask(self, target: Connection) -> Met:
        try:
            who = ask(target, node=self.asks_node)
        except BaseException:
            target.close()
            raise
        return Met(target, who, clock.now())


def ask(target: Connection, *, node: bool) -> Who:
    """Ask who answers, with one short command.

    Args:
        target: the connection.
        node: whether to ask which node it is, too.

    Raises:
        DeadlinePassed, ConnectionLost, LoginRefused: see execute.execute.

    """
    argv = ["sh", "-c", script("any/who.sh"), "who.sh", *(["node"] if node else [])]
    said = target.run(argv, timeout_s=WHO_S, check=False).stdout
    line = _LINE.search(said)
    if line is None:
        return Who()
    target.boot_id = line[1]
    return Who(line[1], line[2] == "yes", _node(said[line.end() :]) if node else None)


def _node(text: str) -> Identity | None:
    try:
        status = parse_status(text)
    except ValueError:
        return None
    return status.identity if status.backend_state == "Running" and not status.expired else None


def _close(met: Met) -> None:
    met.target.close()
