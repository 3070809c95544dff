"""Copies what makes the machine itself into the new root: Tailscale state, SSH host keys, the user's files."""

from typing import Final, NamedTuple

from holdfast.base.places import NEW_ROOT
from holdfast.base.settings import script, settings
from holdfast.base.text import LONGEST_LINE, printable
from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host, Way
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built, Preserved
from holdfast.plan.stage import has_live_state
from holdfast.plan.system import Places
from holdfast.ssh.connection import Connection
from holdfast.tailnet.giving_back import state_to_give_back
from holdfast.target.extra_files import put_extra_files
from holdfast.target.machine import Machine
from holdfast.target.secrets import put_file
from holdfast.target.state import put_state

CARRY_S: Final = 120


class Carried(NamedTuple):
    """What was carried, as short names for the log, and which node the new root's Tailscale state is."""

    what: tuple[str, ...]
    identity: Identity | None


def carry_over(
    machine: Machine,
    target: Connection,
    plan: Plan,
    built: Built,
    preserved: Preserved,
    facts: Facts,
    *,
    names_known: bool,
) -> Carried:
    """Put the installer's live state, the SSH host keys and the extra files in the new root. Can be repeated.

    The installer of the standard way has no Tailscale state. Then the archive that `preserve` stored in the vault is
    used.

    Args:
        machine: the machine, on this boot of the installer.
        target: a connection to the installer, where the new root is mounted.
        plan: the plan.
        built: what was built for it.
        preserved: the archive in the vault.
        facts: what the installer answered.
        names_known: whether the final system has run there: its first start creates the users that own files.

    Raises:
        CommandFailed: there is no live state to carry, or a file cannot be written (see put_file).
        ConfigError, TargetRefused, NotTrusted: the vault does not give this node's state (see state_to_give_back).
        ConfigError: one of the user's files cannot be read, or its owner is unknown.

    """
    host = machine.host
    from_vault = host.way is Way.STANDARD and not has_live_state(facts)
    archive = state_to_give_back(host, plan, preserved.vault_entry, settings()) if from_vault else None
    wanted = _wanted(host, live_state=plan.carries_state and not from_vault)
    done = target.run_script(
        script("installer/carry-over.sh"),
        ["--system", built.toplevel, *_placed(plan.system.places), NEW_ROOT, *wanted],
        timeout_s=CARRY_S,
        on_line=machine.log.line,
    )
    what = [printable(word) for word in done.stdout[:LONGEST_LINE].split()]
    if archive:
        put_state(target, archive, NEW_ROOT, built.toplevel, plan.system.places.state, timeout_s=CARRY_S)
        what.append("tailscale-state from the vault")
    if host.extra_files:
        count = put_extra_files(target, host.extra_files, NEW_ROOT, timeout_s=host.deadlines.upload_s)
        what.append(f"{count} extra files")
    for file in host.files:
        put_file(target, file, NEW_ROOT, names_known=names_known, timeout_s=host.deadlines.upload_s)
        what.append(file.path)
    return Carried(tuple(what), plan.origin.identity if archive else facts.identity)


def _placed(places: Places) -> list[str]:
    """Return the arguments that tell carry-over.sh what the new system keeps elsewhere."""
    usual = Places()
    placed = [word for kind, file in places.host_keys for word in ("--host-key", kind, file)]
    if places.state != usual.state:
        placed += ["--state-folder", places.state]
    if places.machine_id != usual.machine_id:
        placed += ["--machine-id", places.machine_id]
    return placed


def _wanted(host: Host, *, live_state: bool) -> list[str]:
    """Return the arguments that tell carry-over.sh what to carry."""
    wanted = ["host-keys"]
    if live_state:
        wanted.append("tailscale-state")
    if host.keep.machine_id:
        wanted.append("machine-id")
    return wanted
