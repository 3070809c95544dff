"""The name servers of the installer."""

from collections.abc import Mapping
from typing import Final

from holdfast.facts.links import NetworkFacts
from holdfast.facts.network import Network
from holdfast.plan.way_out.made import Made
from holdfast.plan.way_out.row import Verdict, WayOutRow

_SHOWN: Final = 4
_OWN: Final = ("127.", "::1", "100.100.100.100", "fd7a:115c:a1e0::53")


def names_row(network: NetworkFacts, plain: Network, made: Mapping[str, Made]) -> WayOutRow:
    """Return the row on name servers.

    Args:
        network: what way-back.sh told: the servers that the installer is given.
        plain: what facts.sh told: those of /etc/resolv.conf.
        made: the links of the installer.

    """
    told = bool(network.links or network.cards)
    given = network.resolvers if told else tuple(each for each in plain.resolvers if not each.startswith(_OWN))
    leased = any(link.leased for link in made.values())
    if given:
        then = f"asks {_few(given)}{', and what DHCP names' if leased else ''}"
    elif leased:
        then = "asks what DHCP names"
    else:
        then = "asks public name servers: it is given none that it could reach"
    return WayOutRow(
        subject="DNS",
        now=_few(plain.resolvers) or "no name server in /etc/resolv.conf",
        then=then,
        hint="" if given or leased else "Name a server outside this machine in its configuration.",
        verdict=Verdict.FINE if given or leased or not told else Verdict.UNPROVED,
    )


def _few(servers: tuple[str, ...]) -> str:
    more = f" and {len(servers) - _SHOWN} more" if len(servers) > _SHOWN else ""
    return f"{', '.join(servers[:_SHOWN])}{more}"
