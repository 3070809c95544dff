"""Brings what is built to the installer: a copy of what the operator built, or the installer builds it itself.

Then only the derivations are copied: what is built there is what the plan names, store path by store path. The disko
script is built in the installer's RAM while the origin is whole, the system in the store of the new root.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final

from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.base.places import BUILD_UNIT
from holdfast.base.settings import script
from holdfast.base.text import LONGEST_LINE, printable
from holdfast.nixcli.disko_script import MAX_SCRIPT, read_scripts
from holdfast.plan.results import Built
from holdfast.ssh.connection import Connection
from holdfast.target import dead_man
from holdfast.target.machine import Machine
from holdfast.target.units import Condition, unit_name, unit_state

ASK_S: Final = 60
READ_S: Final = 60
# It asks the substituters about each path of the system.
DRY_RUN_S: Final = 600
# The heads of the lists that nix prints (nix's src/libmain/shared.cc, printMissing).
_HEADS: Final = re.compile(r"(?:these|this) [^:]{1,200}:")
_UNKNOWN: Final = re.compile(r"don't know how to build")


def bring(
    machine: Machine,
    built: Built,
    paths: Sequence[str],
    *,
    root: str | None = None,
    on_bytes: Callable[[int], None] | None = None,
    dead_man_s: float = 0,
) -> None:
    """Bring store paths to the installer's own store, or to the store below `root`. What is there stays.

    Args:
        machine: the machine, on this boot of the installer.
        built: what was built on the operator, and what was not.
        paths: store paths of `built`.
        root, on_bytes, dead_man_s: see Machine.copy.

    Raises:
        CommandFailed: see copying.copy_closure; or it does not build there.
        DeadlinePassed: it took too long.
        UnexpectedState: Nix ended well there, and did not build what the plan names.

    """
    drvs = [part.drv for part in built.derivations if part.out in paths]
    if not drvs:
        machine.copy(paths, root=root, on_bytes=on_bytes, dead_man_s=dead_man_s)
        return
    name = f"{BUILD_UNIT}{hashlib.sha256(' '.join([root or '', *drvs]).encode()).hexdigest()[:8]}"
    with machine.wait_and_connect() as target:
        if _has(target, paths, root):
            return
        # What it built is gone: somebody formatted the disk since.
        if unit_state(target, name).condition is Condition.SUCCEEDED:
            target.run(["systemctl", "stop", unit_name(name)], timeout_s=ASK_S)
    machine.copy(drvs, substitute=False, dead_man_s=dead_man_s)
    machine.log.say(f"{machine.host.name} builds {', '.join(paths)}, at most {machine.host.deadlines.build_s:.0f} s")
    machine.run_detached(
        name,
        ["sh", "-c", script("installer/build-there.sh"), "build-there.sh", root or "", _substitutes(machine), *drvs],
        work=f"holdfast build in {root or '/'}: {' '.join(paths)}",
        timeout_s=machine.host.deadlines.build_s,
        dead_man_s=dead_man_s,
    )
    with machine.wait_and_connect() as target:
        if not _has(target, paths, root):
            raise UnexpectedState(
                f"{machine.host.name} built {', '.join(drvs)}, and {', '.join(paths)} is not there.",
                hint='Does the flake use content-addressed derivations? Build it on the operator: build_on = "local".',
            )


def bring_scripts(machine: Machine, built: Built, *, dead_man_s: float) -> None:
    """Bring what formats the disks to the installer, while the origin is whole.

    If the machine builds its system, the derivations of all of it come too: so it is known, before anything is
    formatted, that Nix builds there, and what building the system takes.

    Args:
        machine: the machine, on this boot of the installer.
        built: what was built on the operator, and what was not.
        dead_man_s: see Machine.copy.

    Raises:
        TargetRefused: the installer lacks a part of the system, and knows no way to get it.
        CommandFailed, DeadlinePassed, UnexpectedState: see bring.

    """
    if not built.derivations:
        bring(machine, built, [built.disko_script], dead_man_s=dead_man_s)
        return
    drvs = [part.drv for part in built.derivations]
    machine.copy(drvs, substitute=False, dead_man_s=dead_man_s)
    _look_ahead(machine, drvs, min(DRY_RUN_S, dead_man_s or DRY_RUN_S))
    bring(machine, built, built.scripts, dead_man_s=dead_man_s)


def _look_ahead(machine: Machine, drvs: Sequence[str], timeout_s: float) -> None:
    """Log what Nix would build and fetch there, and make sure that it can."""
    ahead = ["nix-store", "--option", "substitute", _substitutes(machine), "--realise", "--dry-run", *drvs]
    with machine.wait_and_connect() as target:
        dead_man.feed(target)
        said = target.run(ahead, timeout_s=timeout_s).stderr
    heads = [printable(line[:LONGEST_LINE]) for line in said.splitlines() if _HEADS.fullmatch(line)]
    if _UNKNOWN.search(said):
        raise TargetRefused(
            f"{machine.host.name} cannot build its system; nothing was formatted: {printable(said[-LONGEST_LINE:])}",
            hint='Give the image the substituters that have it, or build on the operator: build_on = "local".',
        )
    machine.log.say(f"to build its system in the installer: {' '.join(heads) or 'nothing is missing'}")


def scripts_of(target: Connection, built: Built) -> str:
    """Return the text of the scripts that format and mount, from where they were built. Raises as read_scripts."""
    if not built.derivations:
        return read_scripts(built.scripts)

    def read(path: str) -> str:
        # A character more than is taken, so that the end of a longer one is not missed.
        argv = ["head", "-c", str(4 * MAX_SCRIPT), path]
        return target.run(argv, timeout_s=READ_S, max_output_bytes=8 * MAX_SCRIPT).stdout

    return read_scripts(built.scripts, read)


def _substitutes(machine: Machine) -> str:
    """Return whether Nix there may fetch what is built already, in the words of its option `substitute`."""
    return "true" if machine.host.substitute_on_destination else "false"


def _has(target: Connection, paths: Sequence[str], root: str | None) -> bool:
    """Return whether all paths are in the installer's own store, or in the store below `root`."""
    store = ["--store", f"local?root={root}"] if root else []
    asked = target.run(["nix-store", *store, "--check-validity", *paths], timeout_s=ASK_S, check=False)
    return asked.exit_status == 0
