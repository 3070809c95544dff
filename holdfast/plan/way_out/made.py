"""What the installer makes of the links: a model of nix/scripts/installer/restore-network.sh.

The script runs in the installer, with jq, which neither the origin nor the operator may have.
tests/unit/test_way_out_model.py holds the two together.
"""

from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.facts.links import Link, Route, is_name
from holdfast.plan.way_out.known import Known, is_default

_MOST_LAYERS: Final = 8
_USUAL_MTU: Final = 1500


class Made(Frozen):
    """A link of the installer.

    Attributes:
        name: its name in the origin.
        kind: `card` if it is found by its MAC address, else what is made.
        given_to: the card that has its addresses and routes in the installer; empty if the link itself is there.
        addresses: the addresses that it is given.
        routes: the routes that it is given.
        leased: whether it had an address from DHCP or an advertisement, and gets one in the same way.
        mtu: the largest packet, in bytes; 0 for the usual 1500.

    """

    name: str
    kind: str
    given_to: str = ""
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    leased: bool = False
    mtu: int = 0


def made_of(known: Known) -> dict[str, Made]:
    """Return what the installer has of each link that it can make, by the link's name in the origin."""
    given = _given(known)
    can = _makeable(known, given)
    made = {}
    for link in known.links:
        card = given.get(link.name, "")
        if (card or link.name) not in can:
            continue
        routes = tuple(route for route in known.routes if route.dev == link.name and _stays(route, link))
        made[link.name] = Made(
            name=link.name,
            kind="card" if card else link.kind,
            given_to=card,
            addresses=tuple(each.address for each in link.addresses if each.lasts and not each.near)
            if known.exact
            else (),
            routes=routes if known.exact else (),
            leased=_is_leased(link, 4) or _is_leased(link, 6),
            mtu=link.mtu if link.mtu not in (0, _USUAL_MTU) and link.kind != "loopback" and not card else 0,
        )
    return made


def _given(known: Known) -> dict[str, str]:
    """Return the cards that get what is not made anew and has their MAC address."""
    given = {}
    for link in known.links:
        if link.kind in ("team", "openvswitch") or (known.exact and link.kind == "bridge" and not link.detailed):
            same = (card.name for card in known.links if card.kind == "card" and card.master and card.mac == link.mac)
            if link.mac and (card := next(same, "")):
                given[link.name] = card
    return given


def _makeable(known: Known, given: dict[str, str]) -> set[str]:
    """Return the names of what can be made, from the cards upwards."""
    can = {link.name for link in known.links if _is_there(link, known)}
    for _ in range(_MOST_LAYERS):
        can |= {link.name for link in known.links if link.name not in given and _goes_on(link, can, known, given)}
    return can


def _is_there(link: Link, known: Known) -> bool:
    if link.kind == "card":
        return (bool(link.mac) or not known.exact) and not known.radio(link.name)
    return link.kind == "loopback" or (link.kind in ("dsa", "dummy") and is_name(link.name))


def _goes_on(link: Link, can: set[str], known: Known, given: dict[str, str]) -> bool:
    """Return whether a link can be made of those that can."""
    if not is_name(link.name):
        return False
    if link.kind in ("vlan", "macvlan"):
        tagged = link.kind == "macvlan" or 1 <= link.tag <= 4094 or not known.exact
        lower = given.get(link.lower, link.lower)
        return tagged and (lower in can or (not known.exact and all(each.name != lower for each in known.links)))
    if link.kind not in ("bond", "bridge"):
        return False
    ports = known.ports_of(link.name)
    dummies = {each.name for each in known.links if each.kind == "dummy"}
    return any(port in can and port not in dummies for port in ports) or (not known.exact and not ports)


def _is_leased(link: Link, family: int) -> bool:
    return any(not each.lasts and not each.near and each.family == family for each in link.addresses)


def _stays(route: Route, link: Link) -> bool:
    """Return whether the installer is given a route, as nothing else makes it again."""
    if route.expires:
        return False
    if route.protocol in ("dhcp", "ra"):
        return not _is_leased(link, route.family)
    return route.protocol != "kernel" or bool(route.gateway) or is_default(route)
