"""Carries what makes the machine itself into the new root: live Tailscale state, host keys, the user's files."""

from typing import Final

from tasks.model.host import Host
from tasks.model.results import Built, Restored
from tasks.model.settings import script
from tasks.model.stage import nothing_to_do
from tasks.phase import lines, phase, say
from tasks.remote.extra_files import put_extra_files
from tasks.remote.look import look
from tasks.remote.mounting import ROOT, ensure_mounted
from tasks.remote.reach import reach

TIMEOUT_S: Final = 120


@phase("restore", retries=2)
def restore(host: Host, built: Built) -> Restored:
    """Put the installer's live state, the SSH host keys and the extra files in the new root.

    Raises:
        UnexpectedState: not the installer, or this plan's disks are not mounted.
        CommandFailed: there is no live state to carry.

    """
    with reach(host) as target, lines() as output:
        facts = look(target)
        if skipped := nothing_to_do(facts, built.toplevel, host.name):
            return Restored(skipped=skipped)
        ensure_mounted(target, host.name, built.mount_script)
        done = target.run_script(
            script("carry-over.sh"), [ROOT, *_wanted(host)], timeout_s=TIMEOUT_S, on_line=output.add
        )
        carried = done.stdout.split()
        if host.extra_files:
            count = put_extra_files(target, host.extra_files, ROOT, timeout_s=host.deadlines.upload_s)
            carried.append(f"{count} extra files")
    say(f"carried into the new root: {', '.join(carried)}")
    return Restored(carried=tuple(carried), identity=facts.identity)


def _wanted(host: Host) -> list[str]:
    """Return the words for carry-over.sh."""
    wanted = ["host-keys"]
    if host.carries_state:
        wanted.append("tailscale-state")
    if host.keep.machine_id:
        wanted.append("machine-id")
    return wanted
