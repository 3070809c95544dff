"""Which name the machine has on its tailnet with the new system."""

import re

from holdfast.plan.configuration import Configuration
from holdfast.plan.plan import Plan
from holdfast.plan.refusals.flags import flag


def renamed(seen: Configuration, plan: Plan) -> tuple[str, ...]:
    """Return a warning if the node's name on the tailnet will change; none if it stays, or is not known.

    The control server makes the name of the host name that tailscaled reports: the one of the preferences
    (`--hostname`), else the system's (tailscale's ipn/ipnlocal/local.go, applyPrefsToHostinfoLocked).
    """
    identity = plan.origin.identity
    if identity is None or not plan.carries_state or not seen.tailscale:
        return ()
    told = flag(seen.tailscale_set_flags, "hostname")
    # An empty --hostname takes the preference away.
    reported = seen.host_name if told == "" else told or plan.origin.pinned_host_name or seen.host_name
    new = _label(reported)
    now = identity.dns_name.split(".")[0].lower()
    if not new or not now or new == now or _label(plan.origin.reported_host_name) == new:
        return ()
    return (
        f"its name on the tailnet follows the host name: {now} becomes {new}, and {now} is gone once the new system"
        " runs (unless somebody set the name at the control server). Holdfast reaches it by its address; correct"
        " `target` in the inventory afterwards",
    )


def _label(host_name: str) -> str:
    """Return what a control server makes of a host name (tailscale's util/dnsname, SanitizeHostname)."""
    bare = re.sub(r"\.(localdomain|lan|local)$", "", host_name.lower())
    return re.sub(r"[^a-z0-9-]", "", re.sub(r"[._ @]", "-", bare)).strip("-")[:63]
