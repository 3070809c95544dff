"""What the stock images of the standard way lose of a network that Holdfast's own image restores.

Their program (nixos-images, nix/kexec-installer/restore_routes.py) writes a file for each MAC address, with the static
addresses and the routes that neither the kernel, DHCP nor an advertisement made. It makes no link anew.
"""

from typing import Final

from holdfast.facts.links import Link, Route, covers
from holdfast.plan.way_out.known import Known, is_default
from holdfast.plan.way_out.made import Made
from holdfast.plan.way_out.words import kind_name

_SAME_MAC: Final = ("bond", "bridge", "dsa", "team", "openvswitch")


def lost_in_stock(link: Link, made: Made, known: Known) -> str:
    """Return why a stock image loses the way out over a link; empty if it does not."""
    if link.kind not in ("card", "loopback") and not _has_mac_of_card(link, known):
        return f"a stock image makes no {kind_name(link.kind)} anew"
    if any(not _is_kept(route, link, known) for route in made.routes if is_default(route)):
        return "a stock image loses its default route"
    return ""


def doubted_in_stock(link: Link) -> str:
    """Return why a stock image may lose what a link has; empty if nothing is known."""
    if link.kind in _SAME_MAC:
        return f"a stock image makes no {kind_name(link.kind)}: one of its cards may get the addresses"
    return ""


def _has_mac_of_card(link: Link, known: Known) -> bool:
    """Return whether the file of a link matches a card."""
    if link.kind not in _SAME_MAC:
        return False
    ports = known.ports_of(link.name)
    return link.kind == "dsa" or any(each.kind in ("card", *_SAME_MAC) for each in known.links if each.name in ports)


def _is_kept(route: Route, link: Link, known: Known) -> bool:
    if route.protocol in ("dhcp", "ra"):
        return True  # it asks for an address on each card, too
    if route.protocol == "kernel":
        return False
    near = [each.address for each in link.addresses if each.lasts and not each.peer]
    near += [
        each.dst
        for each in known.routes
        if each.dev == link.name and not each.gateway and not is_default(each) and each.protocol != "kernel"
    ]
    # networkd takes no gateway that is not on the link.
    return (
        not route.gateway
        or route.onlink
        or route.gateway.lower().startswith("fe80:")
        or any(covers(prefix, route.gateway) for prefix in near)
    )
