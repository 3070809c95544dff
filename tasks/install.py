"""Copies the closure to the new root and runs nixos-install."""

from typing import Final

from holdfast.base.places import INSTALL_UNIT, NEW_ROOT
from holdfast.inventory.host import Host, Way
from holdfast.plan.in_use import require_free
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Installed, Preserved
from holdfast.plan.stage import nothing_to_do
from holdfast.target import first_boot, standby, trial
from holdfast.target.building import bring
from holdfast.target.carrying import carry_over
from holdfast.target.look import look
from holdfast.target.mounting import mount_again
from holdfast.target.units import has_begun
from tasks.run.log import say, warn
from tasks.run.phase import phase
from tasks.run.progress import progress
from tasks.run.this_run import hold_target, machine_of

# nixos-anywhere's own arguments, so that what works there works here.
NIXOS_INSTALL: Final = ("nixos-install", "--no-root-passwd", "--no-channel-copy", "--system")
# Our image's nixos-install can carry the Tailscale state (nix/scripts/installer/nixos-install.sh). We do it ourselves.
ENVIRONMENT: Final = {"HOLDFAST_CARRY_OVER": "no"}


@phase("install", retries=2)
def install(host: Host, plan: Plan, built: Built, preserved: Preserved) -> Installed:
    """Copy what the new root lacks of the closure, carry the identity over, then run nixos-install. Can be repeated.

    A closure that the target builds itself is built there first.

    If the disk boots a standby, the phase `trial` installs the boot loader. Else it is installed here, after the
    identity: so a disk that boots always has the machine's identity, even after a power cut.

    Raises:
        UnexpectedState: the installer does not run, or this plan's disks are not mounted.
        Restarted: the machine was rebooted meanwhile.
        TargetRefused: another run works on the target, or it came into use since the plan was made.
        CommandFailed: the copy, the build on the target, or nixos-install failed.
        ConfigError, NotTrusted: see carry_over.

    """
    work = f"holdfast install {plan.layout_digest} {built.toplevel}"
    machine = machine_of(host, plan)
    with machine.wait_and_connect() as target:
        facts = look(target)
        if skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Installed(skipped=skipped)
        require_free(host, plan, facts)
        hold_target(target, facts)
        machine = machine.on_boot(facts.boot_id)
        mount_again(machine, target, built, plan, facts)
        no_trial = trial.why_not(target, host, facts, machine.log)
        if not no_trial:
            work += ", no boot loader"
        begun = has_begun(target, work)
    if not begun:
        on_its_way = "being built on the target" if built.derivations else "on its way to the target"
        with progress(f"closure-{host.name}", f"The system's closure {on_its_way}") as report:
            bring(
                machine, built, [built.toplevel], root=NEW_ROOT, on_bytes=lambda done: report(done, built.closure_bytes)
            )
        with machine.wait_and_connect() as target:
            carry_over(machine, target, plan, built, preserved, look(target), names_known=False)
    machine.run_detached(
        f"{INSTALL_UNIT}{plan.run_id[:8]}",
        [*NIXOS_INSTALL, built.toplevel, *(() if no_trial else ("--no-bootloader",))],
        work=work,
        timeout_s=host.deadlines.install_s,
        env=ENVIRONMENT,
        begun=begun,
    )
    if not no_trial:
        say("its boot loader is installed after its trial; until then the disk boots the installer")
    elif host.way is Way.TAILSCALE:
        if standby.wanted(host):
            warn(f"{built.toplevel} has its boot loader, and no trial comes before it: {no_trial}")
        # Also a standby of an earlier run, from when the inventory asked for one.
        with machine.wait_and_connect() as target:
            try:
                first_boot.finish(target, NEW_ROOT, facts, machine.log, booted=False)
            except standby.StandbyStays as error:
                warn(
                    "a part of the standby is still on the boot partition, with the node's state in it:"
                    f" {error.message}"
                )
    return Installed(toplevel=built.toplevel, boot_loader=bool(no_trial))
