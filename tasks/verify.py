"""Waits for the final system and proves that it is the one that was built, on the same node."""

from typing import Final

from holdfast.base.errors import TargetRefused
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Rebooted, Verified
from holdfast.tailnet.operator import path_to
from holdfast.target import first_boot
from holdfast.target.final import expects_node, wait_for_final
from tasks.run.log import say, warn
from tasks.run.phase import phase
from tasks.run.this_run import machine_of

NEXT: Final = "Nothing more happens without you: the system stays as it is."
BACK: Final = "Nothing more happens without you: switched off and on, the machine starts the installer from its disk."


@phase("verify")
def verify(host: Host, plan: Plan, built: Built, rebooted: Rebooted) -> Verified:
    """Wait for SSH from the final system; compare boot id, closure, identity, host key; look for failed units.

    Diagnose while nothing answers. A node that has to be on the tailnet is proved over the tailnet only. Then the way
    back goes: the firmware's order is set for good, and the standby is removed.

    Raises:
        BackInInstaller: the boot loader did not start the system, and the standby has started the installer.
        NeverCame: it did not answer in time; the message says what was seen last and where it can be reached.
        UnexpectedState: another system booted than the one that was built.
        NotTrusted: another node, or another host key, answers.
        TargetRefused: it runs, with failed units.
        StandbyStays: all is proved, and a part of the standby is still on the disk.

    """
    machine = machine_of(host, plan)
    came = wait_for_final(
        machine,
        plan,
        built,
        left=rebooted.boot_id,
        trial=False,
        deadline_s=host.deadlines.reboot_return_s,
        then=BACK if rebooted.way_back else NEXT,
    )
    facts, failed, over_local = came.facts, came.failed, came.over_local
    away_s = round(came.at - rebooted.rebooted_at, 1) if rebooted.rebooted_at else None
    if over_local:
        warn(f"{host.name} does not answer at {host.target}: it was verified over {host.local} (go_on_over_local)")
    if failed:
        raise TargetRefused(
            f"{host.name} runs its final system, with failed units: {', '.join(failed)}.",
            hint="Look at `systemctl status` there; a retry of the run checks again."
            + (" Until that has succeeded, a reboot starts the installer." if rebooted.way_back else ""),
        )
    with machine.connect() as target:
        efi = first_boot.finish(target, "/", facts, machine.log, booted=True)
    node = "as the same node, " if expects_node(plan, built) and plan.origin.identity else ""
    say(f"{host.name} runs {built.toplevel}, {node}with no failed unit")
    _tell_new_name(host, plan.origin.identity, facts.identity)
    return Verified(
        boot_id=facts.boot_id,
        kernel=facts.kernel_release,
        booted=facts.booted_system or "",
        identity=facts.identity,
        host_key=came.host_key,
        away_s=away_s,
        path="unknown" if over_local else path_to(facts.identity),
        over_local=over_local,
        efi=efi,
    )


def _tell_new_name(host: Host, before: Identity | None, now: Identity | None) -> None:
    """Warn if the node has another name on its tailnet: its name there follows the machine's host name."""
    if not before or not now or not before.dns_name or now.dns_name in ("", before.dns_name):
        return
    again = ""
    if before.is_called(host.target):
        again = f' Set target = "{now.dns_name}" in the inventory: {host.target} does not lead to it any more.'
    warn(f"{host.name} is {now.dns_name} on its tailnet now, and was {before.dns_name}.{again}")
