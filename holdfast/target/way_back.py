"""Looks whether the origin will come back after a reboot."""

from holdfast.base.settings import script
from holdfast.facts.way_back import WayBackFacts, parse_way_back
from holdfast.ssh.connection import Connection


def look_back(target: Connection) -> WayBackFacts:
    """Run the script that looks at how the origin boots, and return the facts. Changes nothing on the target.

    Raises:
        UnexpectedState: the answer is invalid.

    """
    answer = target.run_script(script("origin/way-back.sh"), timeout_s=target.endpoint.look_s).stdout
    return parse_way_back(answer, target.endpoint.host)
