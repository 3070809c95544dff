"""Where a machine is when a run stops on its way, and what happens there if nobody comes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from holdfast.base import clock
from holdfast.base.places import DEAD_MAN_TIMER, NEW_ROOT, TRIAL_WATCH
from holdfast.base.text import LONGEST_LINE, printable
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host
from holdfast.plan.stage import Stage, observe
from holdfast.target import dead_man, standby
from holdfast.target.look import look
from holdfast.target.machine import Machine
from holdfast.target.units import Condition, Unit, list_units

# The run ends after this look, and a process that was told to end is killed after 30 s. There may be four attempts: at
# two addresses, with two logins.
CONNECT_S: Final = 5.0


def whereabouts(machine: Machine) -> str:
    """Look at a machine once, and say in sentences which system runs, and what it does if nobody comes.

    Changes nothing there.

    Raises:
        HoldfastError: it cannot be looked at now.

    """
    soon = machine.host.deadlines.model_copy(update={"connect_s": min(CONNECT_S, machine.host.deadlines.connect_s)})
    hurried = replace(machine, host=machine.host.model_copy(update={"deadlines": soon}))
    with hurried.connect_over_last_way() as target:
        facts = look(target)
        if observe(facts).stage is Stage.ORIGIN:
            return describe(machine.host, facts)
        units = [unit for unit in list_units(target) if unit.state.condition is Condition.RUNNING]
        no_standby = standby.why_missing(target, NEW_ROOT) if facts.partition_mark else ""
    return describe(machine.host, facts, units=units, no_standby=no_standby)


def describe(host: Host, facts: Facts, *, units: Sequence[Unit] = (), no_standby: str = "") -> str:
    """Say where the machine is.

    Args:
        host: the machine.
        facts: what it answered.
        units: the work of runs that continues there by itself.
        no_standby: why the disk that was formatted does not boot the installer; empty if it does.

    """
    stage, why = observe(facts)
    said = [f"{host.name} runs {why}."]
    if stage is Stage.INSTALLER:
        said.append(_in_installer(host, facts, no_standby))
    elif facts.on_trial and TRIAL_WATCH in facts.units:
        said.append(
            "That is its trial: if nobody comes, it goes back to the installer within"
            f" {host.deadlines.reboot_return_s:.0f} s."
        )
    elif facts.on_trial:
        said.append("That is its trial, whose watch is over: it stays in this system until it is rebooted.")
    said.extend(f"{unit.name} ({printable(unit.work[:LONGEST_LINE])}) continues there by itself." for unit in units)
    return " ".join(said)


def _in_installer(host: Host, facts: Facts, no_standby: str) -> str:
    if DEAD_MAN_TIMER in facts.units:
        at = clock.now() + dead_man.waits_s(facts, host.deadlines)
        return (
            "Its disks were not formatted. Its dead-man is armed: if nobody comes, it goes back to its origin at"
            f" {dead_man.on_clock(at)} (operator's clock) at the latest."
        )
    if facts.partition_mark is None:
        return (
            "It has no dead-man now, and no disks that were formatted for a plan: if formatting has begun, nothing"
            " boots from its disks until it is done. It stays in the installer until it is rebooted."
        )
    formatted = f"Its disks were formatted by run {facts.partition_mark.run_id}. It stays in the installer"
    if no_standby:
        return f"{formatted} until it is rebooted, and then its disk may boot nothing: no standby ({no_standby})."
    return f"{formatted}, also after a power cut: its disk boots the standby."
