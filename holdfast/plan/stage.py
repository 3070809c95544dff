"""Which of its systems a target runs now. It is always observed, never remembered."""

from enum import StrEnum
from typing import NamedTuple

from holdfast.base.errors import UnexpectedState
from holdfast.facts.facts import Facts
from holdfast.facts.marks import STOCK


class Stage(StrEnum):
    """The systems that a target may run, from its first to its last; OTHER is somebody else's."""

    ORIGIN = "origin"
    INSTALLER = "installer"
    FINAL = "final"
    OTHER = "other"


class Observed(NamedTuple):
    """A stage, and the system that was seen, as part of a sentence."""

    stage: Stage
    why: str


def observe(facts: Facts, toplevel: str = "") -> Observed:
    """Return the stage that the facts show.

    Args:
        facts: the facts of the target.
        toplevel: store path of the system that this run installs, once it is known. If given, any other system is
            an origin, also an older NixOS; otherwise, every system that Holdfast installed is final.

    """
    # A broken mark on the disk leaves the system what it is: a machine in use (holdfast/plan/in_use.py).
    if broken := [name for name in facts.broken_marks if name != "system_mark"]:
        return Observed(Stage.OTHER, f"a system with a mark that cannot be read ({', '.join(broken)})")
    if facts.installer_mark:
        run = facts.installer_mark.run_id or "no run"
        return Observed(Stage.INSTALLER, f"the installer {facts.installer_mark.image_id or '?'}, started by {run}")
    if facts.os_variant == "installer":
        return Observed(Stage.INSTALLER, "an installer without Holdfast's mark")
    runs = facts.booted_system or facts.os_name or facts.os_id or "an unknown system"
    ours = bool(facts.system_mark and facts.booted_system)
    if (facts.booted_system == toplevel) if toplevel else ours:
        return Observed(Stage.FINAL, f"the installed system {runs}")
    return Observed(Stage.ORIGIN, f"its own system, {runs}")


def is_foreign_installer(facts: Facts) -> bool:
    """Return whether an installer runs that is not Holdfast's: it has no dead-man, and no Tailscale state of ours."""
    mark = facts.installer_mark
    return observe(facts).stage is Stage.INSTALLER and (mark is None or mark.image_id == STOCK)


def nothing_to_do(facts: Facts, toplevel: str, host: str) -> str:
    """Return why a phase that works in the installer has nothing to do; empty if it has.

    Raises:
        UnexpectedState: neither the installer nor the final system is running.

    """
    stage, why = observe(facts, toplevel)
    if stage is Stage.INSTALLER:
        return ""
    if stage is Stage.FINAL:
        return f"{host} runs {why} already"
    raise UnexpectedState(
        f"{host} is not in the installer: it runs {why}, boot {facts.boot_id}.",
        hint="The dead-man fired, or it was rebooted. Look at it, then retry the run: it continues from what it finds.",
    )


def has_live_state(facts: Facts) -> bool:
    """Return whether an installer runs that has a Tailscale state of its own, newer than any in the vault.

    That tailscaled's file exists proves nothing: it is written before anybody has logged in.
    """
    mark = facts.installer_mark
    restored = mark is not None and mark.state == "restored"
    return observe(facts).stage is Stage.INSTALLER and (facts.identity is not None or restored)
