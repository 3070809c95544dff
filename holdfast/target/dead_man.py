"""The installer's dead-man: a timer that reboots into the untouched origin if nobody comes."""

import time
from typing import Final

from holdfast.base import clock
from holdfast.base.places import DEAD_MAN_TIMER
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Deadlines
from holdfast.ssh.connection import Connection

TIMEOUT_S: Final = 30


def feed(target: Connection) -> bool:
    """Start the timer anew, if the installer has one and it is armed, and say whether it did."""
    armed = target.run(["systemctl", "is-active", "--quiet", DEAD_MAN_TIMER], timeout_s=TIMEOUT_S, check=False)
    if armed.exit_status == 0:
        target.run(["systemctl", "restart", DEAD_MAN_TIMER], timeout_s=TIMEOUT_S)
    return armed.exit_status == 0


def disarm(target: Connection) -> None:
    """Stop the timer: from now on the origin is no place to go back to.

    Raises:
        CommandFailed: it is there and did not stop, so formatting must not begin.

    """
    known = target.run(["systemctl", "cat", DEAD_MAN_TIMER], timeout_s=TIMEOUT_S, check=False)
    if known.exit_status == 0:
        target.run(["systemctl", "stop", DEAD_MAN_TIMER], timeout_s=TIMEOUT_S)


def waits_s(facts: Facts, deadlines: Deadlines) -> float:
    """Return how long the dead-man waits from when it is fed, in seconds: as the installer says, else as planned."""
    mark = facts.installer_mark
    return (mark and mark.dead_man_s) or deadlines.dead_man_s


def on_clock(at: float) -> str:
    """Return a moment, in seconds since 1970, on the operator's clock; with its date if that is not today's."""
    moment = time.localtime(at)
    today = moment[:3] == time.localtime(clock.now())[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", moment)
