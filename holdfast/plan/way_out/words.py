"""The words for links of the plan's section *The way out*."""

from typing import Final

from holdfast.facts.links import Link, Route
from holdfast.plan.way_out.known import Known, is_default
from holdfast.plan.way_out.made import Made

_SHOWN: Final = 4
_NAMES: Final = {
    "card": "card",
    "loopback": "loopback",
    "vlan": "VLAN",
    "ppp": "PPP",
    "tun": "tunnel",
    "none": "tunnel",
    "wireguard": "WireGuard",
    "infiniband": "InfiniBand",
    "openvswitch": "Open vSwitch",
    "dsa": "DSA port",
}
_BY_CABLE: Final = "Connect it by cable, with an address there, and run this again."
_IN_IMAGE: Final = "Give it a default route over a card, or describe it in the image (holdfast.installer.network)."


def as_it_is(link: Link, known: Known) -> str:
    """Return a link in words, as it is."""
    parts = [_kind(link, known)]
    parts += _few([each.address + ("" if each.lasts else " (leased)") for each in link.addresses if not each.near])
    parts += _routes(tuple(route for route in known.routes if route.dev == link.name))
    if link.mtu not in (0, 1500) and link.kind != "loopback":
        parts.append(f"MTU {link.mtu}")
    return ", ".join(parts)


def as_made(made: Made, known: Known) -> str:
    """Return what the installer has of a link, in words."""
    if made.given_to:
        parts = [f"{made.given_to} gets"]
    elif made.kind in ("card", "loopback", "dsa"):
        parts = []
    else:
        parts = ["made anew"]
    if known.exact:
        has = [*_few(list(made.addresses)), *_routes(made.routes)]
        has += [f"MTU {made.mtu}"] if made.mtu else []
    else:
        has = ["the same, as far as can be seen"]
    if not made.addresses and known.exact and made.kind not in ("loopback", "dummy"):
        has.append("what DHCP and router advertisements give")
    elif made.leased:
        has.append("and what DHCP and router advertisements give")
    if made.given_to:
        return f"{parts[0]} {', '.join(has)}"
    return ", ".join([*parts, *has])


def why_not(link: Link, known: Known) -> str:
    """Return why the installer cannot make a link."""
    if radio := known.radio(link.name):
        return "the installer joins no Wi-Fi" if radio == "Wi-Fi" else "the installer dials with no modem"
    match link.kind:
        case "ppp":
            return "the installer makes no PPP, as PPPoE needs it"
        case "tun" | "none" | "wireguard":
            return "the installer has neither the program nor the key of a tunnel"
        case "vlan" | "macvlan":
            return f"the installer cannot make it: what it lies on ({link.lower or '?'}) is not there"
        case "bond" | "bridge":
            return "the installer cannot make it: no card is a port of it"
        case "card":
            return "it has no MAC address by which it could be found"
    return f"the installer does not make this kind of link ({kind_name(link.kind)})"


def hint_of(link: Link, known: Known, *, standard: bool) -> str:
    """Return what a person can do about a link that is lost.

    Args:
        link: the link.
        known: what is known of the links.
        standard: whether only the image of the standard way loses it.

    """
    if standard:
        return 'Choose an image of Holdfast (way = "tailscale"): it restores this.'
    if known.radio(link.name):
        return _BY_CABLE
    if link.kind == "ppp":
        return "Let a router in front of it log in, or connect it to another network by cable."
    if link.kind in ("tun", "none", "wireguard"):
        return "Give it a default route over a card."
    return _IN_IMAGE


def kind_name(kind: str) -> str:
    """Return a kind of links as people write it."""
    return _NAMES.get(kind, kind or "unknown")


def _kind(link: Link, known: Known) -> str:
    card = known.cards.get(link.name)
    name = known.radio(link.name) or kind_name(link.kind)
    if card and card.driver:
        name += f" ({card.driver})"
    if link.kind == "vlan":
        name += f" {link.tag}" if link.tag else ""
    if link.lower and link.kind in ("vlan", "macvlan", "dsa"):
        name += f" on {link.lower}"
    if link.kind in ("bond", "bridge") and (ports := known.ports_of(link.name)):
        name += f" of {', '.join(_few(list(ports)))}"
    return name


def _routes(routes: tuple[Route, ...]) -> list[str]:
    """Return the default routes in words, and how many others lead over a gateway."""
    defaults = [f"default by {route.gateway}" if route.gateway else "default" for route in routes if is_default(route)]
    others = sum(1 for route in routes if not is_default(route) and route.gateway)
    return [*_few(list(dict.fromkeys(defaults))), *([f"{others} other route{'s' * (others > 1)}"] if others else [])]


def _few(texts: list[str]) -> list[str]:
    return texts if len(texts) <= _SHOWN else [*texts[:_SHOWN], f"{len(texts) - _SHOWN} more"]
