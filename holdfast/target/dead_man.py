"""The dead-man: the installer's timer that reboots into the untouched origin if the operator does not come.

Who reaches the installer feeds it, and so does work there while it makes progress (Feeder). Time alone never feeds it.
"""

import time
from collections.abc import Callable
from typing import Final

from holdfast.base import clock
from holdfast.base.errors import HoldfastError
from holdfast.base.places import DEAD_MAN_TIMER
from holdfast.base.settings import script
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Deadlines
from holdfast.ssh.connection import Connection

SYSTEMCTL_S: Final = 30
# How often work that makes progress feeds it within the time that it waits.
FEEDS: Final = 4
# When work has begun, and after a feed that failed.
SOON_S: Final = 10.0


def feed(target: Connection) -> bool:
    """Start the timer anew if it is armed. Return whether it was: false if it was disarmed, or there is no dead-man."""
    argv = ["sh", "-c", script("installer/dead-man-feed.sh"), "dead-man-feed.sh", DEAD_MAN_TIMER]
    return target.run(argv, timeout_s=SYSTEMCTL_S).stdout.strip() == "fed"


def disarm(target: Connection) -> None:
    """Stop the timer: formatting begins, and there will be no origin to go back to.

    Raises:
        CommandFailed: the timer exists and did not stop, so formatting must not begin.

    """
    argv = ["sh", "-c", script("installer/dead-man-disarm.sh"), "dead-man-disarm.sh", DEAD_MAN_TIMER]
    target.run(argv, timeout_s=SYSTEMCTL_S)


class Feeder:
    """Feeds the dead-man while work makes progress, and only then: work that hangs still ends in the origin.

    It has a link of its own, which stays open: to open one takes long where the work fills a slow link. A feed that
    fails ends nothing: the work may go on, and the next feed comes soon.

    Args:
        connect: opens a connection to the installer.
        wait_s: how long the dead-man waits after it is fed; 0 if there is none to feed.
        on_line: called with a line when it cannot be fed.

    """

    def __init__(self, connect: Callable[[], Connection], wait_s: float, on_line: Callable[[str], None]) -> None:
        self._connect, self._on_line = connect, on_line
        self._every_s = wait_s / FEEDS
        self._due_at = clock.monotonic() + min(SOON_S, self._every_s)
        self._done = self._fed_for = 0
        self._armed = wait_s > 0
        self._link: Connection | None = None

    def moved(self, done: int) -> None:
        """Take how much is done: only more than ever before is progress. May be called from another thread."""
        self._done = max(self._done, done)

    def feed_if_due(self) -> None:
        """Feed the dead-man if there was progress since it was fed, and a part of its time has passed."""
        done = self._done
        if not self._armed or done == self._fed_for or clock.monotonic() < self._due_at:
            return
        try:
            self._link = self._link or self._connect()
            self._armed = feed(self._link)
        except HoldfastError as error:
            self.close()
            self._due_at = clock.monotonic() + min(SOON_S, self._every_s)
            self._on_line(f"the dead-man could not be fed, and is tried again soon: {error.message}")
        else:
            self._fed_for, self._due_at = done, clock.monotonic() + self._every_s

    def close(self) -> None:
        """End its link."""
        if self._link is not None:
            self._link.close()
            self._link = None


def waits_s(facts: Facts, deadlines: Deadlines) -> float:
    """Return how many seconds the dead-man waits after it is fed: as the installer says, else as the inventory says."""
    mark = facts.installer_mark
    return (mark and mark.dead_man_s) or deadlines.dead_man_s


def on_clock(at: float) -> str:
    """Return a moment (seconds since 1970) as the operator's local time, with its date if that is not today."""
    moment = time.localtime(at)
    today = moment[:3] == time.localtime(clock.now())[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", moment)
