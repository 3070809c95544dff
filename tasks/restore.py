"""Carries the machine's identity, as it is now, into the new root. The last step before the final system starts."""

from holdfast.inventory.host import Host
from holdfast.plan.in_use import require_free
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Installed, Preserved, Restored
from holdfast.plan.stage import nothing_to_do
from holdfast.target.carrying import carry_over
from holdfast.target.look import look
from holdfast.target.mounting import mount_again
from tasks.run.log import say
from tasks.run.phase import phase
from tasks.run.this_run import hold_target, machine_of


@phase("restore", retries=2)
def restore(host: Host, plan: Plan, built: Built, preserved: Preserved, installed: Installed) -> Restored:
    """Put the live state, the host keys and the extra files in the new root. They replace what `install` put there.

    Raises:
        UnexpectedState: the installer does not run, or this plan's disks are not mounted.
        TargetRefused: another run works on the target, or it came into use since the plan was made.
        CommandFailed, ConfigError, NotTrusted: see carry_over.

    """
    machine = machine_of(host, plan)
    with machine.wait_and_connect() as target:
        facts = look(target)
        if skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Restored(skipped=skipped)
        require_free(host, plan, facts)
        hold_target(target, facts)
        mount_again(machine.on_boot(facts.boot_id), target, built, plan, facts)
        # The final system creates its users when it first runs: in the chroot of its boot loader, or in its trial.
        known = installed.boot_loader
        carried = carry_over(machine, target, plan, built, preserved, facts, names_known=known)
    say(f"carried into the new root: {', '.join(carried.what)}")
    return Restored(carried=carried.what, identity=carried.identity)
