"""Looks whether the origin will come back after a reboot."""

from typing import Final

from holdfast.base.settings import script
from holdfast.facts.way_back import WayBackFacts, parse_way_back
from holdfast.ssh.connection import Connection

# The programs that way-back.sh asks have limits of their own: it answers although all of them hang.
LOOK_BACK_S: Final = 150


def look_back(target: Connection) -> WayBackFacts:
    """Run the script that looks at how the origin boots, and return the facts. Changes nothing on the target.

    Raises:
        UnexpectedState: the answer is invalid.

    """
    answer = target.run_script(script("origin/way-back.sh"), timeout_s=LOOK_BACK_S).stdout
    return parse_way_back(answer, target.endpoint.host)
