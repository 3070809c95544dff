"""Stores a copy of the target's Tailscale state in the vault, and proves that it is this node's."""

from typing import Final

from holdfast.base.errors import TargetRefused
from holdfast.base.places import STATE_DIR
from holdfast.base.settings import script, settings
from holdfast.inventory.host import Host, Way
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Preserved
from holdfast.plan.stage import Stage, has_live_state, observe
from holdfast.tailnet.archive import MAX_ARCHIVE_BYTES, check_archive
from holdfast.tailnet.vault import Label, Vault
from holdfast.target.look import look
from tasks.run.log import say
from tasks.run.phase import phase
from tasks.run.this_run import machine_of

STREAM_S: Final = 120


@phase("preserve", retries=2)
def preserve(host: Host, plan: Plan, built: Built) -> Preserved:
    """Stream `/var/lib/tailscale` from the target to the vault and check it. Changes nothing on the target.

    In the standard way, the final system gets this copy. In the Tailscale way, it is for emergencies.

    The archive goes straight to the operator over SSH. A file in the origin's `/tmp` would be a new copy of the
    secret, on a disk that survives if the machine returns to its origin.

    Raises:
        NotTrusted: the archive is unsafe, or of another node.
        TargetRefused: the plan has no node to preserve.

    """
    if host.way is Way.STANDARD and not plan.carries_state:
        return Preserved(skipped="there is no Tailscale state to keep, or the inventory does not want it kept")
    with machine_of(host, plan).wait_and_connect() as target:
        facts = look(target)
        stage = observe(facts, built.toplevel).stage
        # In another's installer nobody has preserved it yet.
        if stage is not Stage.ORIGIN and not (plan.foreign and has_live_state(facts)):
            return Preserved(skipped=f"the {stage} system runs, so its state is preserved already, or live")
        archive = target.read_output(
            ["sh", "-c", script("origin/read-state.sh"), "read-state.sh", STATE_DIR],
            max_bytes=MAX_ARCHIVE_BYTES,
            timeout_s=STREAM_S,
        )
    if plan.origin.identity is None:
        raise TargetRefused(f"{host.name} has no identity on the tailnet to preserve.")
    checked = check_archive(archive, plan.origin.identity)
    label = Label(identity=plan.origin.identity, host_key=plan.origin.host_key)
    entry = Vault(settings()).store(host.name, archive, label)
    say(f"the state of node {plan.origin.identity.node_key[:20]}… is in the vault ({len(archive)} bytes)")
    return Preserved(vault_entry=str(entry.path), sha256=checked.sha256, size_bytes=len(archive))
