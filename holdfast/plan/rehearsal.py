"""The rules of a rehearsal: how it runs, where it may start and go back, and how long an install trusts it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from holdfast.base.errors import ConfigError, NotTrusted, TargetRefused, UnexpectedState
from holdfast.base.places import INSTALL_UNIT, PARTITION_UNIT
from holdfast.facts.facts import Facts
from holdfast.facts.identity import require_same_node
from holdfast.inventory.host import DAY_S, Host, Way
from holdfast.plan.plan import Plan
from holdfast.plan.stage import Stage, observe

# A label of the rehearsal's flow run; the server shows it to every worker, unlike the files of another one.
NODE_LABEL: Final = "holdfast.node-id"
# The units of tasks/partition.py and tasks/install.py; while they run, the disks may not be mounted yet.
_AT_WORK: Final = (PARTITION_UNIT, INSTALL_UNIT)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A rehearsal that succeeded.

    Attributes:
        run_id: its flow run.
        ended_at: when it ended.
        node_id: stable node ID of the machine that came back; empty if the run does not say.

    """

    run_id: str
    ended_at: datetime
    node_id: str


def rehearsal_host(host: Host) -> Host:
    """Return the host for a rehearsal: reached over its tailnet only, since that is what a rehearsal proves.

    Raises:
        ConfigError: it uses the standard way.

    """
    if host.way is Way.STANDARD:
        raise ConfigError(
            f"{host.name} goes the standard way, which cannot be rehearsed: no dead-man would bring the machine back.",
            hint='Set way = "tailscale" in the inventory, or install it without a rehearsal.',
        )
    return host.model_copy(update={"go_on_over_local": False})


def require_start(host: str, run_id: str, facts: Facts, toplevel: str) -> None:
    """Require that a rehearsal starts from an origin, or resumes in the installer that this run started.

    Raises:
        TargetRefused: the final system runs, or an installer of another run.

    """
    stage, why = observe(facts, toplevel)
    mark = facts.installer_mark
    if stage is Stage.ORIGIN or (stage is Stage.INSTALLER and mark is not None and mark.run_id == run_id):
        return
    hints = {
        Stage.INSTALLER: f"A reboot brings its origin back, unless its disks are formatted; or run install/{host}.",
        Stage.FINAL: "The system that the flake describes is installed already: there is no install to rehearse.",
    }
    raise TargetRefused(
        f"a rehearsal starts from an origin, and {host} runs {why}; nothing was changed on it.",
        hint=hints.get(stage, "Look at the machine."),
    )


def require_untouched(host: str, run_id: str, facts: Facts) -> None:
    """Require that the installer is this run's, and that nobody uses it: only then may the rehearsal reboot it.

    Raises:
        UnexpectedState: it is another run's, the disks are formatted or mounted, or an install is running.

    """
    mark = facts.installer_mark
    mounted = [f"{disk.path} at {place}" for disk in facts.disks for place in disk.mountpoints]
    at_work = [unit for unit in facts.units if unit.startswith(_AT_WORK)]
    if mark is None or mark.run_id != run_id:
        seen = f"it was started by {(mark and mark.run_id) or 'an unknown run'}, not by this run"
    elif facts.partition_mark:
        seen = f"run {facts.partition_mark.run_id} formatted its disks"
    elif at_work:
        seen = f"{at_work[0]} runs there"
    elif mounted:
        seen = f"a disk is in use ({', '.join(mounted)})"
    else:
        return
    raise UnexpectedState(
        f"the installer on {host} is not rebooted: {seen}.",
        hint="Somebody else works on the machine. When they are done, or the disks are free, Retry this run.",
    )


def require_home(host: str, plan: Plan, facts: Facts, host_key: str, toplevel: str, *, left: str) -> None:
    """Require that the running system is the origin, on a new boot, and the same machine.

    Args:
        host: the host's name.
        plan: its plan.
        facts: what it answered.
        host_key: the SSH host key that answered.
        toplevel: store path of the system that is to be installed.
        left: the boot id on which the origin was left; empty if it is unknown.

    Raises:
        UnexpectedState: it is not an origin, or is still on the boot that the rehearsal began on.
        NotTrusted: it is another node, or has another SSH host key.

    """
    stage, why = observe(facts, toplevel)
    if stage is not Stage.ORIGIN:
        raise UnexpectedState(
            f"{host} came back as {why}, not as its origin.", hint="Look at what it boots before you install it."
        )
    if facts.boot_id == left:
        raise UnexpectedState(
            f"{host} runs its origin on the boot that it was left on ({facts.boot_id}).",
            hint="It is not the machine that was in the installer. Look at the address in the inventory.",
        )
    require_same_node(host, plan.origin.identity, facts.identity, hint="Find out who answers there.")
    if host_key != plan.origin.host_key:
        raise NotTrusted(
            f"{host} came back with the SSH host key {host_key}, and had {plan.origin.host_key}.",
            hint="Find out who answers there.",
        )


def require_rehearsal(host: Host, node_id: str, rehearsals: Iterable[Rehearsal], now: datetime) -> Rehearsal:
    """Return the rehearsal that allows an install of a host.

    Args:
        host: the host; its `rehearsal_max_age_days` is the limit.
        node_id: stable node ID of the machine to install; it stays when the node key is renewed.
        rehearsals: those of hosts with this name, newest first; only as many are read as needed.
        now: the operator's time.

    Raises:
        ConfigError: the host uses the standard way, which cannot be rehearsed.
        TargetRefused: there is none, it is too old, or it was with another machine.

    """
    limit_days = host.rehearsal_max_age_days or 0
    if host.way is Way.STANDARD:
        raise ConfigError(
            f"the inventory requires a rehearsal of {host.name}, and the standard way cannot be rehearsed;"
            " nothing was changed on it.",
            hint="Name an image of ours (the tailscale way), or remove rehearsal_max_age_days.",
        )
    seen = "none is known to the Prefect server"
    for number, rehearsal in enumerate(rehearsals):
        age_days = (now - rehearsal.ended_at).total_seconds() / DAY_S
        if rehearsal.node_id and rehearsal.node_id == node_id:
            if age_days <= limit_days:
                return rehearsal
            seen = f"the last one ended {age_days:.1f} days ago"
            break
        if number == 0:
            seen = f"the last one, {age_days:.1f} days ago, was of another node ({rehearsal.node_id or 'unknown'})"
    raise TargetRefused(
        f"{host.name} needs a rehearsal not older than {limit_days:g} days, and {seen}; nothing was changed on it.",
        hint=f"prefect deployment run rehearse/{host.name} --watch, then start this again.",
    )
