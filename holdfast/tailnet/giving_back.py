"""The standard way's Tailscale state: it waits in the vault while the installer, which has none, runs."""

from pathlib import Path

from holdfast.base.errors import TargetRefused
from holdfast.base.settings import Settings
from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host, Way
from holdfast.plan.plan import Plan
from holdfast.plan.stage import Stage, has_live_state, observe
from holdfast.tailnet.archive import check_archive
from holdfast.tailnet.vault import Vault

_LOST = (
    "Reboot it into its old system and start again, so that its state is kept first; or, if there is none to keep, set"
    " keep.tailscale_state = false in the inventory."
)


def check_giving_back(host: Host, facts: Facts, host_key: str, settings: Settings) -> Identity | None:
    """See, before anything is changed, that the state can be given back in the end.

    If the installer runs already, started by an earlier run, the state is the newest in the vault that came from a
    machine with the SSH host key which answers now; the host's name alone would be a guess.

    Returns:
        Whose state waits in the vault; None if it does not come from there, or is yet to be preserved.

    Raises:
        ConfigError: the vault is encrypted, and cannot be opened again here.
        TargetRefused: the installer runs, and the vault has no state of this machine.
        NotTrusted: what the vault has is another node's.

    """
    if host.way is not Way.STANDARD or not host.keep.tailscale_state or has_live_state(facts):
        return None
    vault = Vault(settings)
    if observe(facts).stage is not Stage.INSTALLER:
        if facts.identity is not None:
            vault.check_opens()
        return None
    entry = vault.newest(host.name, host_key)
    if entry is None:
        raise TargetRefused(
            f"{host.name} runs an installer without Tailscale, and the vault here has no state of a machine with its"
            " SSH host key.",
            hint=_LOST,
        )
    check_archive(vault.read(entry.path), entry.label.identity)
    return entry.label.identity


def state_to_give_back(host: Host, plan: Plan, preserved: str, settings: Settings) -> bytes | None:
    """Return the state archive for the new system, checked again; None if there is none to give.

    Args:
        host: the host.
        plan: this run's plan, whose node it has to be.
        preserved: the path of this run's vault entry; empty if an earlier run preserved it.
        settings: where the vault is, and how it is opened.

    Raises:
        ConfigError: it cannot be read or opened here.
        TargetRefused: it is not in the vault any more.
        NotTrusted: it is not what was preserved.

    """
    identity = plan.origin.identity
    if not plan.carries_state or identity is None:
        return None
    vault = Vault(settings)
    entry = None if preserved else vault.newest(host.name, plan.origin.host_key, identity)
    if not preserved and entry is None:
        raise TargetRefused(
            f"the vault here has no state of {host.name} any more: its new system would not be on its tailnet.",
            hint="Retry on the worker that made the plan.",
        )
    archive = vault.read(entry.path if entry else Path(preserved))
    check_archive(archive, identity)
    return archive
