"""Compares what the disko script will open with the plan, in the installer, just before it runs."""

import re
from typing import Final

from holdfast.base.errors import UnexpectedState
from holdfast.base.settings import script
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host
from holdfast.plan.opened import DiskoScript, Node, disks_of, parse_script, require_planned
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built
from holdfast.ssh.connection import Connection
from holdfast.target.building import scripts_of

LOOK_S: Final = 120
_LINE: Final = re.compile(r"([1-9][0-9]{0,4}) ([\w!.-]{1,64})((?: [\w!.-]{1,64})*) *", re.ASCII)


def check_opened(target: Connection, host: Host, plan: Plan, built: Built, facts: Facts) -> frozenset[str]:
    """Check that the scripts which format and mount open no other disks than those of the plan.

    Returns:
        The kernel names of all disks that they open.

    Raises:
        UnexpectedState: a path leads to a disk that the plan keeps, or a disk of the plan is not opened.
        CommandFailed, ConfigError: the scripts cannot be read where they were built.

    """
    seen = parse_script(scripts_of(target, built))
    leads_to = resolve(target, seen)
    require_planned(host, seen, leads_to, plan.wipe, plan.reuse, facts)
    return frozenset(name for nodes in leads_to.values() for node in nodes for name in node.disks)


def resolve(target: Connection, seen: DiskoScript) -> dict[str, tuple[Node, ...]]:
    """Return the block devices that each path of a script leads to on the target.

    Raises:
        UnexpectedState: the answer is not what nix/scripts/installer/disk-paths.sh prints.

    """
    paths = list(dict.fromkeys([*seen.paths, *(seen.destroyed or ()), *(link for link, _ in seen.named)]))
    said = target.run_script(script("installer/disk-paths.sh"), paths, timeout_s=LOOK_S).stdout
    found: dict[str, list[Node]] = {}
    for line in said.splitlines():
        match = _LINE.fullmatch(line)
        if not match or int(match[1]) > len(paths):
            raise UnexpectedState(
                f"{target.endpoint.host} did not say where the paths of the disko script lead; nothing was formatted.",
                hint="Does a login there print text? `ssh TARGET true` must print nothing.",
            )
        found.setdefault(paths[int(match[1]) - 1], []).append(disks_of(Node(match[2], frozenset(match[3].split()))))
    return {path: tuple(nodes) for path, nodes in found.items()}
