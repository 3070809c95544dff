"""An installer that somebody else started, as a NixOS ISO: how a run goes on from there.

It has nothing of Holdfast's image: no dead-man, and nothing that a standby could be made of. What it needs of scripts
is sent to it, as to every installer.
"""

from typing import Final

from holdfast.base.errors import TargetRefused
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Allowance, Host, Way
from holdfast.plan.stage import is_foreign_installer

FOREIGN_INSTALLER: Final[Allowance] = "foreign-installer"


def check_foreign(facts: Facts, host: Host, *, rehearsal: bool) -> None:
    """Refuse to go on from an installer that is not Holdfast's, unless the user allows it.

    Raises:
        TargetRefused: it runs, in the tailscale way, and the user did not allow it; or there is nothing to rehearse.

    """
    if host.way is not Way.TAILSCALE or not is_foreign_installer(facts):
        return
    standard = (
        f"Or install it from there in the standard way: just install {host.name} ADDRESS, with an address outside the"
        " tailnet."
    )
    if rehearsal:
        raise TargetRefused(
            f"{host.name} runs an installer that is not Holdfast's: a rehearsal begins in an origin, and returns to"
            " it.",
            hint=f"Reboot it into its own system, then start again. {standard}",
        )
    if FOREIGN_INSTALLER not in host.allow:
        state = "the Tailscale login that it has" if facts.identity else "no Tailscale state, for it has no login"
        raise TargetRefused(
            f"{host.name} runs an installer that is not Holdfast's: it has no dead-man, and there will be neither"
            f" standby nor trial. The final system would get {state}.",
            hint=f'To go on from there, without kexec, put "{FOREIGN_INSTALLER}" in `allow` in the inventory. Or reboot'
            f" the machine into its own system, and start again. {standard}",
        )


def goes_on_from_foreign(host: Host, facts: Facts) -> bool:
    """Return whether an installer runs that is not Holdfast's, and the user allows to go on from it."""
    return FOREIGN_INSTALLER in host.allow and is_foreign_installer(facts)


def going_on(host: Host, facts: Facts) -> Host:
    """Return the host as a run goes on with it: on another's installer without standby, and so without trial.

    If that is on no tailnet, the rest is the standard way, which needs no node. The phases get it by Plan.goes_on_with.
    """
    if host.way is not Way.TAILSCALE or not goes_on_from_foreign(host, facts):
        return host
    way = Way.TAILSCALE if facts.identity else Way.STANDARD
    return host.model_copy(update={"way": way, "standby": False})
