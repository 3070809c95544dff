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
    said = target.run_script(script("any/facts.sh"), timeout_s=target.endpoint.look_s).stdout
    facts = parse_facts(said, target.endpoint.host)
    target.boot_id = facts.boot_id
    return facts


def is_starting(target: Connection) -> bool:
    """Return whether the system has not yet started all that starts at boot."""
    state = target.run(["systemctl", "is-system-running"], timeout_s=PROBE_S, check=False).stdout.strip()
    return state in ("initializing", "starting")


def failed_units(target: Connection) -> tuple[str, ...]:
    """Return the names of the failed units."""
    listed = target.run(
        ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"], timeout_s=PROBE_S
    )
    return tuple(printable(line.split()[0])[:256] for line in listed.stdout.split("\n") if line.strip())
