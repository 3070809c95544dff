"""Finishes what an earlier run left behind on a machine that is in use: the standby of its first boot."""

from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.results import Finished
from holdfast.plan.stage import Stage, observe
from holdfast.plan.until import DRY
from holdfast.target import first_boot
from holdfast.target.look import look
from tasks.run.phase import phase
from tasks.run.this_run import machine_of


@phase("finish", retries=2)
def finish(host: Host, plan: Plan) -> Finished:
    """Remove the standby from a machine that is in use and left alone, if the run that installed it never came so far.

    Such a machine runs from its own disk, and answers: its first boot is proved. The standby has the node's state in
    it, and must not stay. Nothing else is touched.

    Raises:
        StandbyStays: a part of the standby is still on the disk.

    """
    if plan.until in DRY:
        return Finished(skipped=f"this run changes nothing: it was to stop after {plan.until}")
    machine = machine_of(host, plan)
    with machine.wait_and_connect() as target:
        facts = look(target)
        if observe(facts).stage is not Stage.FINAL or facts.on_trial:
            return Finished(skipped="no run of Holdfast has installed what runs there")
        if not facts.root:
            return Finished(skipped=f"the login {host.user} is not root")
        return Finished(efi=first_boot.finish(target, "/", facts, machine.log, booted=True))
