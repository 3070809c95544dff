"""The standard way's Tailscale state: it waits in the vault while the installer runs, which has no Tailscale."""

from pathlib import Path

from holdfast.base.errors import TargetRefused
from holdfast.base.settings import Settings
from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity
from holdfast.inventory.host import Host, Way
from holdfast.plan.foreign import FOREIGN_INSTALLER
from holdfast.plan.plan import Plan
from holdfast.plan.stage import Stage, has_live_state, observe
from holdfast.tailnet.archive import check_archive
from holdfast.tailnet.vault import Vault

_LOST = (
    "Reboot it into the origin and start again, so that its state is preserved first. If there is none to keep, set"
    " keep.tailscale_state = false in the inventory."
)

_NOBODYS = (
    f'To go on from here, as from a NixOS ISO on a new machine, put "{FOREIGN_INSTALLER}" in `allow` there: the final'
    " system then needs a login of its own."
)


def check_giving_back(host: Host, facts: Facts, host_key: str, settings: Settings) -> Identity | None:
    """Check, before anything is changed, that the state can be given back at the end.

    If an earlier run has started the installer, the state is the newest in the vault from a machine with the SSH
    host key that answers now. The host's name alone would be a guess.

    Returns:
        The node whose state waits in the vault; None if the state does not come from there, or is not preserved yet.

    Raises:
        ConfigError: the vault is encrypted, and cannot be decrypted here.
        TargetRefused: the installer runs, and the vault has no state of this machine.
        NotTrusted: the state in the vault is another node's.

    """
    if host.way is not Way.STANDARD or not host.keep.tailscale_state or has_live_state(facts):
        return None
    vault = Vault(settings)
    if observe(facts).stage is not Stage.INSTALLER:
        if facts.identity is not None:
            vault.check_opens()
        return None
    entry = vault.newest(host.name, host_key)
    if entry is None and facts.installer_mark is None and FOREIGN_INSTALLER in host.allow:
        return None  # what the machine was before, nobody knows: the plan says that no state is kept
    if entry is None:
        raise TargetRefused(
            f"{host.name} runs an installer without Tailscale, and the vault here has no state of a machine with its"
            " SSH host key.",
            hint=_LOST if facts.installer_mark else f"{_LOST} {_NOBODYS}",
        )
    check_archive(vault.read(entry.path), entry.label.identity)
    return entry.label.identity


def state_to_give_back(host: Host, plan: Plan, preserved: str, settings: Settings) -> bytes | None:
    """Return the state archive for the final system, checked again; None if there is none to give back.

    Args:
        host: the host.
        plan: this run's plan, whose node it must be.
        preserved: the path of this run's vault entry; empty if an earlier run preserved it.
        settings: where the vault is, and how it is decrypted.

    Raises:
        ConfigError: it cannot be read or decrypted here.
        TargetRefused: it is no longer in the vault.
        NotTrusted: it is not what was preserved.

    """
    identity = plan.origin.identity
    if not plan.carries_state or identity is None:
        return None
    vault = Vault(settings)
    entry = None if preserved else vault.newest(host.name, plan.origin.host_key, identity)
    if not preserved and entry is None:
        raise TargetRefused(
            f"the vault here no longer has a state of {host.name}: the final system would not be on its tailnet.",
            hint="Retry on the worker that made the plan.",
        )
    archive = vault.read(entry.path if entry else Path(preserved))
    check_archive(archive, identity)
    return archive
