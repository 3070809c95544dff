"""Waits for the final system, in its trial and after the reboot."""

from dataclasses import dataclass
from typing import Final

from holdfast.base.errors import BackInInstaller, NeverCame, UnexpectedState
from holdfast.base.places import NEW_ROOT
from holdfast.base.waiting import NotYet, wait_for
from holdfast.facts.facts import Facts
from holdfast.facts.identity import require_same_node
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built
from holdfast.plan.stage import Stage, observe
from holdfast.ssh.reach import is_over_local
from holdfast.target.diagnose import Diagnosis
from holdfast.target.look import failed_units, is_starting, look
from holdfast.target.machine import Machine
from holdfast.target.returning import PAUSE_S, Returning

STILL_ANSWERS: Final = "the previous system still answers"
NO_NODE_YET: Final = "the final system answers, its tailscaled is not up yet"
STARTING: Final = "the final system is still starting"
HINT: Final = "Look at its console: boot loader, network, `journalctl -u tailscaled`."


@dataclass(frozen=True, slots=True)
class Arrived:
    """The final system answers.

    Attributes:
        facts: what it answered.
        host_key: the SSH host key that answered.
        failed: names of its failed units; empty in its trial, where they are not asked for.
        over_local: whether it was reached at the inventory's `local`; always false for a system that has to be on the
            tailnet.
        at: when it answered, in seconds since 1970.

    """

    facts: Facts
    host_key: str
    failed: tuple[str, ...]
    over_local: bool
    at: float


def back_in_installer(name: str, toplevel: str) -> BackInInstaller:
    """Return what is said of a machine whose first boot from its disk led to the standby."""
    return BackInInstaller(
        f"the boot loader of {name} did not start {toplevel}, which its trial has proved: the machine is in the"
        " installer again, started by the standby on its disk, on its tailnet. Nothing is lost.",
        hint="Its console shows what the boot loader says. A Retry, or a new run with a corrected configuration, starts"
        " with the trial again, and formats nothing. A firmware that never starts what it is told to start next needs"
        " `standby = false` in the inventory, and a new run.",
    )


def expects_node(plan: Plan, built: Built) -> bool:
    """Return whether the final system has to be on the tailnet, as the node of the plan."""
    return plan.carries_state and built.tailscale


def wait_for_final(
    machine: Machine,
    plan: Plan,
    built: Built,
    *,
    left: str,
    trial: bool,
    deadline_s: float,
    then: str,
) -> Arrived:
    """Wait until the final system answers. A node that has to be on the tailnet is proved over the tailnet only.

    Args:
        machine: the machine; whichever boot answers.
        plan: its plan.
        built: the system that was installed.
        left: the boot id of the system before it; empty if unknown.
        trial: true for its trial, false for its start from its own boot loader.
        deadline_s: seconds until it has to answer.
        then: what happens without the operator if it does not answer, for the message.

    Raises:
        NeverCame: it did not answer in time; the message says what was seen last and where it can be reached.
        UnexpectedState: another system came; in the trial also the installer, started by the standby.
        BackInInstaller: not in the trial: the installer came, started by the standby.
        NotTrusted: another node, or another host key, answers.

    """
    host, log = machine.host, machine.log
    node = plan.origin.identity
    node_expected = expects_node(plan, built)
    diagnosis = Diagnosis(host, node if node_expected else None, addresses=plan.origin.addresses, log=log)

    came_at: dict[str, float] = {}  # by boot id

    def probe() -> Arrived:
        with returning.meet() as met:
            target = met.target
            if left and met.who.boot_id == left:
                raise NotYet(STILL_ANSWERS)
            if returning.asks_node and met.who.node is None and not is_over_local(target, host):
                raise NotYet(NO_NODE_YET)
            if met.who.boot_id in came_at and is_starting(target):
                raise NotYet(STARTING)
            facts = look(target)
            diagnosis.saw(facts)
            if facts.boot_id == left:
                raise NotYet(STILL_ANSWERS)
            if observe(facts).stage is Stage.INSTALLER:
                if trial:
                    raise UnexpectedState(
                        f"{host.name} did not come up in {built.toplevel}: it is in the installer again, started by the"
                        " standby on its disk, on its tailnet. Nothing is lost.",
                        hint=f"Its console, or `journalctl -D {NEW_ROOT}/var/log/journal` there, may show why."
                        " Correct the configuration and start a new run: it continues there and formats nothing.",
                    )
                if facts.partition_mark:
                    raise back_in_installer(host.name, built.toplevel)
                if plan.foreign:
                    raise NotYet(
                        "the installer answers again: take its medium (a USB stick, an ISO) out of the machine"
                    )
                raise NotYet("the installer answers, on another boot")
            if facts.booted_system != built.toplevel:
                raise UnexpectedState(
                    f"{host.name} booted {facts.booted_system or facts.os_id}, not {built.toplevel}.",
                    hint="Look at the boot loader's entries; the final system is on the disk.",
                )
            if facts.on_trial and not trial:
                raise NotYet("its trial still runs")
            over_local = is_over_local(target, host)
            if node_expected:
                require_same_node(plan.host, node, facts.identity, hint="Its state is in the vault.")
                if over_local:
                    raise NotYet(f"the final system runs and answers at {host.local}, not over the tailnet")
                if facts.identity is None:
                    returning.asks_node = True
                    raise NotYet(NO_NODE_YET)
            if trial:
                return Arrived(facts, target.host_key, (), over_local, met.at)
            at = came_at.setdefault(facts.boot_id, met.at)
            if is_starting(target):
                raise NotYet(STARTING)
            return Arrived(facts, target.host_key, failed_units(target), over_local, at)

    what = f"{host.name} to start its final system" if trial else f"{host.name} to boot its final system"
    log.say(f"waiting for {what}, at most {deadline_s:.0f} s")
    try:
        with Returning(machine) as returning:
            return wait_for(what, diagnosis.watch(probe), deadline_s=deadline_s, pause_s=PAUSE_S, on_change=log.say)
    except NeverCame as error:
        diagnosis.look()
        runs_at = diagnosis.answers_at(built.toplevel)
        runs = f" The final system runs and is reachable at {runs_at}, not at {host.target}." if runs_at else ""
        raise NeverCame(
            f"{error.message} {diagnosis.summary()}{runs} {then}",
            hint=f"{diagnosis.hint() or HINT} A retry of the run waits again.",
        ) from error
