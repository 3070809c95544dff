"""Whether a machine is in use: it is wiped only if the run says `reinstall` and a person approves."""

from collections.abc import Collection
from typing import Final

from holdfast.base.errors import TargetRefused
from holdfast.base.places import DEAD_MAN_TIMER
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.stage import Stage, observe

INSTALLED: Final = (
    "installed already; to change its configuration use nixos-rebuild, to wipe it start a run with reinstall"
)


def names_of(host: Host, host_name: str = "") -> tuple[str, ...]:
    """Return the names by which an installed system is known as this host.

    Args:
        host: the host.
        host_name: the configuration's networking.hostName; empty if unknown.

    """
    return tuple(dict.fromkeys(name for name in (host.name, host.attribute, host_name) if name))


def in_use(facts: Facts, names: Collection[str]) -> str:
    """Return why a machine is in use; empty if it is not, or if that is unknown (see origin_known).

    It is in use if it carries Holdfast's mark, also one that cannot be read, or is a NixOS with one of these names. An
    installer says what ran before it; once disks are formatted there is nothing left to protect.
    """
    stage = observe(facts).stage
    if stage is Stage.OTHER:
        return ""  # an installer whose mark cannot be read: every phase refuses it
    if stage is not Stage.INSTALLER:
        trial = ", in its trial; a reboot takes it back to the installer" if facts.on_trial else ""
        runs = facts.booted_system or facts.os_name or facts.os_id or "an unknown system"
        runs += trial
        if mark := facts.system_mark:
            return f"run {mark.run_id} installed it, and it runs {runs}"
        if "system_mark" in facts.broken_marks:
            return f"it has a mark of Holdfast that cannot be read, and runs {runs}"
        if (facts.os_id == "nixos" or facts.booted_system) and _is_named(facts.hostname, names):
            return f"it is a NixOS with the host name {facts.hostname}, and runs {runs}"
        return ""
    mark_of = facts.installer_mark
    if facts.partition_mark or mark_of is None or mark_of.origin_mark is None:
        return ""
    before = "its installer was started from a system that"
    back = "; its dead-man brings that back"
    if DEAD_MAN_TIMER not in facts.units:
        back = f"; no dead-man brings that back: if run {mark_of.run_id or '?'} has begun to format, Retry that one"
    if mark_of.origin_mark != "no":
        return f"{before} carries a mark of Holdfast{back}"
    if mark_of.origin_nixos == "yes" and _is_named(mark_of.origin_hostname or "", names):
        return f"{before} is a NixOS with the host name {mark_of.origin_hostname}{back}"
    return ""


def is_left_alone(facts: Facts, names: Collection[str], toplevel: str, *, reinstall: bool, rehearsal: bool) -> bool:
    """Return whether a run ends at its plan, because the machine is in use and runs another system than this one.

    Args:
        facts: what was observed.
        names: see names_of.
        toplevel: store path of the system that the run installs; a machine that runs it goes to `verify`.
        reinstall: whether the run says that a machine in use is wiped.
        rehearsal: whether the install is only rehearsed: then the machine returns to what it runs.

    """
    runs_it = observe(facts, toplevel).stage is Stage.FINAL
    return not reinstall and not rehearsal and not runs_it and bool(in_use(facts, names))


def origin_known(facts: Facts) -> bool:
    """Return whether it can be told if the machine is in use: false in an installer that does not say what ran before.

    An installer of somebody else, as one from a USB stick, says nothing. Behind it may be a machine in use.
    """
    mark = facts.installer_mark
    known = mark is not None and mark.origin_mark is not None
    return observe(facts).stage is not Stage.INSTALLER or known or facts.partition_mark is not None


def require_free(host: Host, plan: Plan, facts: Facts) -> None:
    """Refuse to start an installer, or to change disks, where a machine came into use since the plan was made.

    A rehearsal goes back and changes no disk. A reinstall was approved by a person, for the system of its plan. An
    installer that does not say what ran before it continues only what a person approved for such a one, or the run that
    started it.

    Raises:
        TargetRefused: it is in use, and the plan does not say that it is reinstalled; or nobody knows that any more.

    """
    if plan.rehearsal:
        return
    started_by = facts.installer_mark.run_id if facts.installer_mark else None
    if not origin_known(facts) and started_by != plan.run_id and (plan.origin_known or not plan.cleared):
        raise TargetRefused(
            f"{host.name} runs an installer that does not say which system ran before it, and this run did not plan for"
            " that: it may be in use by now; nothing was changed on it.",
            hint="Start a new run: it asks a person first. Or reboot the machine into its own system, then retry.",
        )
    if plan.reinstalls and plan.cleared:
        return
    if why := in_use(facts, plan.host_names):
        lacks = "no person has approved" if plan.reinstalls else "this run's plan does not say"
        raise TargetRefused(
            f"{host.name} is in use ({why}), and {lacks} that it is reinstalled; nothing was changed on it.",
            hint=f"It is {INSTALLED}.",
        )


def _is_named(seen: str, names: Collection[str]) -> bool:
    """Return whether a host name is one of these; the domain behind a name, and upper case, make no difference."""
    short = {name.partition(".")[0].lower() for name in names}
    return bool(seen) and seen.partition(".")[0].lower() in short
