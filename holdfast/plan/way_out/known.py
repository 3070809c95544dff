"""What is known of the links: from `ip` with JSON, or where that is missing from /sys and the lines of a plain `ip`."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.facts.links import Card, Link, LinkAddress, NetworkFacts, Route, covers, is_address
from holdfast.facts.network import Network

# include/uapi/linux/if_arp.h
_LOOPBACK: Final = 772
_PPP: Final = 512
_ETHER: Final = (0, 1)
# Kinds of links by DEVTYPE that restore-network.sh knows by the same name, or does not know.
_AS_CALLED: Final = ("bond", "bridge", "dsa", "macvlan", "ppp", "tun", "vlan", "vxlan", "wireguard")
# By the usual names, where nothing else is told. The name of a VLAN often begins with that of its link.
_BY_NAME: Final = (
    (r"lo", "loopback"),
    (r"ppp\d", "ppp"),
    (r"wg\d|wg-", "wireguard"),
    (r"tun\d|tap\d", "tun"),
    (r".*\.\d{1,4}$|vlan\d", "vlan"),
    (r"bond\d", "bond"),
    (r"br\d|br-|vmbr\d", "bridge"),
)
_TAILSCALE: Final = "tailscale"
_TAILNET: Final = ("100.64.0.0/10", "fd7a:115c:a1e0::/48")
_MODEMS: Final = ("cdc_mbim", "hso", "huawei_cdc_ncm", "iosm", "mhi_net", "qmi_wwan", "sierra_net")
_TETHERS: Final = ("cdc_ether", "cdc_ncm", "ipheth", "rndis_host")


class Known(Frozen):
    """The links and routes of an origin, without those of Tailscale.

    Attributes:
        links: the links, with their addresses.
        cards: what /sys tells of each, by name.
        routes: the routes of the main table; without JSON the default routes only.
        exact: whether `ip` itself told all this as JSON, which is what the installer is given.
        leaves_by: the links by which its packets leave; those of the best default routes if the kernel was not asked.
        operator_by: the link by which the answers to the operator leave; empty if it is Tailscale's, or not known.

    """

    links: tuple[Link, ...]
    cards: dict[str, Card]
    routes: tuple[Route, ...]
    exact: bool
    leaves_by: tuple[str, ...]
    operator_by: str = ""

    def radio(self, name: str) -> str:
        """Return `Wi-Fi` or `mobile modem` if a card is one; else nothing. A name of udev's tells it, too."""
        card = self.cards.get(name)
        if card is None:
            return "Wi-Fi" if name.startswith("wl") else "mobile modem" if name.startswith("ww") else ""
        if card.kind == "wwan" or card.driver in _MODEMS:
            return "mobile modem"
        return "Wi-Fi" if card.kind == "wlan" else ""

    def is_tether(self, name: str) -> bool:
        """Return whether a card is a telephone on USB, or looks like one."""
        card = self.cards.get(name)
        if card is None:
            return name.startswith("usb")
        return card.bus == "usb" and card.driver in _TETHERS

    def ports_of(self, name: str) -> tuple[str, ...]:
        """Return the links that a bond or a bridge has as its ports."""
        ports = [link.name for link in self.links if link.master == name]
        return tuple(dict.fromkeys((*ports, *(port for port, card in self.cards.items() if card.master == name))))

    def default_routes(self) -> tuple[Route, ...]:
        """Return the default routes whose links have a carrier."""
        return tuple(route for route in self.routes if is_default(route) and not route.dead)


def is_default(route: Route) -> bool:
    """Return whether a route leads everywhere."""
    return route.dst in ("default", "0.0.0.0/0", "::/0")


def known_of(network: NetworkFacts, plain: Network) -> Known:
    """Return what is known of the links.

    Args:
        network: what way-back.sh told.
        plain: what facts.sh told: the lines of any `ip`.

    """
    exact = bool(network.links)
    # After them, what `ip` did not tell, or what was cut off.
    told = {link.name for link in network.links}
    links = (*network.links, *(link for link in _plain_links(network.cards, plain) if link.name not in told))
    own = {link.name for link in links if _is_tailscale(link)} | {"lo"}
    routes = network.routes or tuple(_plain_routes(plain))

    def is_own(dev: str) -> bool:
        return dev in own or dev.startswith(_TAILSCALE)

    routes = tuple(route for route in routes if not is_own(route.dev))
    leaves_by = tuple(dev for dev in network.leaves_by if not is_own(dev))
    return Known(
        links=tuple(link for link in links if link.name == "lo" or link.name not in own),
        cards=network.cards,
        routes=routes,
        exact=exact,
        leaves_by=leaves_by or tuple(_best(routes)),
        operator_by="" if is_own(network.operator_by) else network.operator_by,
    )


def _is_tailscale(link: Link) -> bool:
    if link.name.startswith(_TAILSCALE):
        return True
    # tailscaled may be told another name (--tun).
    wide = [each.address.partition("/")[0] for each in link.addresses if not each.near]
    tunnel = link.kind in ("tun", "none")
    return tunnel and bool(wide) and all(any(covers(net, address) for net in _TAILNET) for address in wide)


def _best(routes: tuple[Route, ...]) -> Iterator[str]:
    for family in (4, 6):
        ways = [route for route in routes if is_default(route) and route.family == family and not route.dead]
        if ways:
            yield min(ways, key=lambda route: route.metric).dev


def _plain_links(cards: dict[str, Card], plain: Network) -> Iterator[Link]:
    addresses: dict[str, list[LinkAddress]] = {}
    for line in plain.addresses:
        name, _, address = line.partition(" ")
        name, _, _ = name.partition("@")
        if is_address(address):
            near = address.lower().startswith(("fe80:", "127.", "::1/"))
            addresses.setdefault(name, []).append(LinkAddress(address=address, near=near))
    for name in dict.fromkeys((*cards, *addresses, *(route.dev for route in _plain_routes(plain)))):
        card = cards.get(name, Card())
        kind = _kind_in_sys(card, cards, name) if name in cards else _kind_by_name(name)
        lower = card.lower[0] if card.lower else name.partition(".")[0]
        yield Link(
            name=name,
            kind=kind,
            mac=card.mac,
            mtu=card.mtu,
            master=card.master,
            lower=lower if kind in ("vlan", "macvlan") else "",
            addresses=tuple(addresses.get(name, ())),
        )


def _kind_in_sys(card: Card, cards: dict[str, Card], name: str) -> str:
    if card.kind in _AS_CALLED:
        return card.kind
    if card.type == _LOOPBACK:
        return "loopback"
    if card.type == _PPP:
        return "ppp"
    if card.type not in _ETHER:
        return "none"
    if card.bus or card.kind in ("wlan", "wwan"):
        return "card"
    if any(other.master == name for other in cards.values()):
        return "bridge"
    return _kind_by_name(name)


def _kind_by_name(name: str) -> str:
    return next((kind for pattern, kind in _BY_NAME if re.match(rf"(?:{pattern})", name)), "card")


def _plain_routes(plain: Network) -> Iterator[Route]:
    for line in plain.default_routes:
        words = line.split()
        said = dict(pairwise(words))
        if not words or words[0] != "default" or "dev" not in said:
            continue
        metric = said.get("metric", "0")
        yield Route(
            family=6 if ":" in said.get("via", "") else 4,
            dst="default",
            dev=said["dev"],
            gateway=said.get("via", "").removeprefix("inet6"),
            onlink="onlink" in words,
            metric=int(metric) if metric.isascii() and metric.isdigit() and len(metric) < 12 else 0,
            protocol=said.get("proto", ""),
            expires="expires" in words,
            dead="linkdown" in words or "dead" in words,
        )
