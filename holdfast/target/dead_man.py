"""The dead-man: the installer's timer that reboots into the untouched origin if the operator does not come."""

import time
from typing import Final

from holdfast.base import clock
from holdfast.base.places import DEAD_MAN_TIMER
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Deadlines
from holdfast.ssh.connection import Connection

SYSTEMCTL_S: Final = 30


def feed(target: Connection) -> bool:
    """Start the timer anew if it is armed. Return whether it was: false if it was disarmed, or there is no dead-man."""
    armed = target.run(["systemctl", "is-active", "--quiet", DEAD_MAN_TIMER], timeout_s=SYSTEMCTL_S, check=False)
    if armed.exit_status == 0:
        target.run(["systemctl", "restart", DEAD_MAN_TIMER], timeout_s=SYSTEMCTL_S)
    return armed.exit_status == 0


def disarm(target: Connection) -> None:
    """Stop the timer: formatting begins, and there will be no origin to go back to.

    Raises:
        CommandFailed: the timer exists and did not stop, so formatting must not begin.

    """
    known = target.run(["systemctl", "cat", DEAD_MAN_TIMER], timeout_s=SYSTEMCTL_S, check=False)
    if known.exit_status == 0:
        target.run(["systemctl", "stop", DEAD_MAN_TIMER], timeout_s=SYSTEMCTL_S)


def waits_s(facts: Facts, deadlines: Deadlines) -> float:
    """Return how many seconds the dead-man waits after it is fed: as the installer says, else as the inventory says."""
    mark = facts.installer_mark
    return (mark and mark.dead_man_s) or deadlines.dead_man_s


def on_clock(at: float) -> str:
    """Return a moment (seconds since 1970) as the operator's local time, with its date if that is not today."""
    moment = time.localtime(at)
    today = moment[:3] == time.localtime(clock.now())[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", moment)
