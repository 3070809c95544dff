"""Carries what makes the machine itself into the new root: Tailscale state, host keys, the user's files."""

from typing import Final

from tasks.model.host import Host, Way
from tasks.model.plan import Plan, has_live_state
from tasks.model.results import Built, Preserved, Restored
from tasks.model.settings import script, settings
from tasks.model.stage import nothing_to_do
from tasks.phase import hold_target, lines, phase, say
from tasks.remote.extra_files import put_extra_files
from tasks.remote.look import look
from tasks.remote.mounting import ROOT, ensure_mounted
from tasks.remote.reach import arrive
from tasks.remote.state import put_state
from tasks.tailnet.giving_back import state_to_give_back

TIMEOUT_S: Final = 120


@phase("restore", retries=2)
def restore(host: Host, plan: Plan, built: Built, preserved: Preserved) -> Restored:
    """Put the installer's live state, the SSH host keys and the extra files in the new root.

    The installer of the standard way has no state: then the vault gives what `preserve` put there.

    Raises:
        UnexpectedState: not the installer, or this plan's disks are not mounted.
        CommandFailed: there is no live state to carry.
        TargetRefused: another run works on the target.
        ConfigError, TargetRefused, NotTrusted: the vault does not give this node's state (see state_to_give_back).

    """
    with arrive(host) as target, lines() as output:
        facts = look(target)
        if skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Restored(skipped=skipped)
        hold_target(target, facts)
        ensure_mounted(target, host.name, built.mount_script)
        from_vault = host.way is Way.STANDARD and not has_live_state(facts)
        archive = state_to_give_back(host, plan, preserved.vault_entry, settings()) if from_vault else None
        wanted = _wanted(host, live_state=plan.carries_state and not from_vault)
        done = target.run_script(
            script("carry-over.sh"),
            ["--system", built.toplevel, ROOT, *wanted],
            timeout_s=TIMEOUT_S,
            on_line=output.add,
        )
        carried = done.stdout.split()
        if archive:
            put_state(target, archive, ROOT, built.toplevel, timeout_s=TIMEOUT_S)
            carried.append("tailscale-state of the vault")
        if host.extra_files:
            count = put_extra_files(target, host.extra_files, ROOT, timeout_s=host.deadlines.upload_s)
            carried.append(f"{count} extra files")
    say(f"carried into the new root: {', '.join(carried)}")
    return Restored(carried=tuple(carried), identity=plan.origin.identity if archive else facts.identity)


def _wanted(host: Host, *, live_state: bool) -> list[str]:
    """Return the words for carry-over.sh."""
    wanted = ["host-keys"]
    if live_state:
        wanted.append("tailscale-state")
    if host.keep.machine_id:
        wanted.append("machine-id")
    return wanted
