"""Carries what makes the machine itself into the new root, as it is now: the last thing before the reboot."""

from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Installed, Preserved, Restored
from holdfast.plan.stage import nothing_to_do
from holdfast.ssh.reach import arrive
from holdfast.target.carrying import carry_over
from holdfast.target.look import look
from holdfast.target.mounting import mount_again
from tasks.run.phase import hold_target, lines, phase, say


@phase("restore", retries=2)
def restore(host: Host, plan: Plan, built: Built, preserved: Preserved, installed: Installed) -> Restored:
    """Put the live state, the host keys and the extra files in the new root, over what `install` put there before.

    Raises:
        UnexpectedState: not the installer, or this plan's disks are not mounted.
        TargetRefused: another run works on the target.
        CommandFailed, ConfigError, NotTrusted: see carry_over.

    """
    with arrive(host) as target, lines() as output:
        facts = look(target)
        if skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Restored(skipped=skipped)
        hold_target(target, facts)
        mount_again(target, host, built, boot_id=facts.boot_id, on_line=output.add)
        # The new system makes its users when it runs first: in the chroot of its boot loader, or in its trial.
        known = installed.boot_loader
        carried = carry_over(target, host, plan, built, preserved, facts, names_known=known, on_line=output.add)
    say(f"carried into the new root: {', '.join(carried.what)}")
    return Restored(carried=carried.what, identity=carried.identity)
