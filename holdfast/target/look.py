"""Observes the target: what it is and what runs there now."""

from typing import Final

from holdfast.base.settings import script
from holdfast.base.text import printable
from holdfast.facts.facts import Facts, parse_facts
from holdfast.ssh.connection import Connection

PROBE_S: Final = 60


def look(target: Connection) -> Facts:
    """Run the probe script and return the facts. Changes nothing on the target.

    Raises:
        UnexpectedState: the answer is invalid.

    """
    return parse_facts(
        target.run_script(script("any/facts.sh"), timeout_s=target.endpoint.look_s).stdout, target.endpoint.host
    )


def system_state(target: Connection) -> tuple[str, tuple[str, ...]]:
    """Return the output of `systemctl is-system-running`, and the names of the failed units."""
    state = target.run(["systemctl", "is-system-running"], timeout_s=PROBE_S, check=False).stdout.strip()
    listed = target.run(
        ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"], timeout_s=PROBE_S
    )
    return state, tuple(printable(line.split()[0])[:256] for line in listed.stdout.split("\n") if line.strip())
