"""The links of a machine, their addresses and routes."""

import re
from ipaddress import ip_interface, ip_network
from typing import Final

from pydantic import Field

from holdfast.base.frozen import Frozen

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,14}")
ADDRESS: Final = re.compile(r"[0-9A-Fa-f.:/]{1,64}")
"""The characters that restore-network.sh takes in an address or a prefix."""


class LinkAddress(Frozen):
    """An address of a link.

    Attributes:
        address: with the length of its prefix, as `192.0.2.7/24`.
        peer: the other end's; empty if there is none.
        lasts: whether it was set to stay, and not leased or advertised.
        near: whether it is for this link or this machine only.

    """

    address: str
    peer: str = ""
    lasts: bool = True
    near: bool = False

    @property
    def family(self) -> int:
        """The version of IP: 4 or 6."""
        return 6 if ":" in self.address else 4


class Card(Frozen):
    """What /sys tells of a link (Documentation/ABI/testing/sysfs-class-net).

    Attributes:
        type: ARPHRD_ number of include/uapi/linux/if_arp.h; 0 if it is not known.
        kind: the kernel's DEVTYPE, as `wlan`; empty for a plain card.
        bus: how it is attached, as `usb`; empty if it is no hardware.
        driver: the name of its driver.
        foreign: whether its driver is none of the kernel's own.
        mac: its hardware address.
        mtu: the largest packet, in bytes.
        master: the link that it is a port of.
        lower: the links that it lies on, or that are its ports.

    """

    type: int = 0
    kind: str = ""
    bus: str = ""
    driver: str = ""
    foreign: bool = False
    mac: str = ""
    mtu: int = 0
    master: str = ""
    lower: tuple[str, ...] = ()


class Link(Frozen):
    """A link, as `ip --json --details addr` tells it.

    Attributes:
        name: its name.
        kind: what it is, as restore-network.sh sees it: `card`, `vlan`, `bond`, `bridge`, `tun`, …
        detailed: whether `ip` itself says what it is.
        mac: its hardware address; empty if it has none like that of Ethernet.
        mtu: the largest packet, in bytes; 0 if it is not known.
        tag: a VLAN's; 0 if it is none.
        master: the link that it is a port of.
        lower: the link that it lies on.
        addresses: its addresses.

    """

    name: str
    kind: str
    detailed: bool = False
    mac: str = ""
    mtu: int = 0
    tag: int = 0
    master: str = ""
    lower: str = ""
    addresses: tuple[LinkAddress, ...] = ()


class Route(Frozen):
    """A route of the main table, over one link.

    Attributes:
        family: 4 or 6.
        dst: `default`, or a prefix.
        dev: the link.
        gateway: empty if there is none.
        onlink: whether the gateway is taken for one on the link, whatever the addresses say.
        metric: of several, the lowest is used.
        protocol: who made it, as `kernel`, `dhcp`, `static`.
        expires: whether it was advertised, and ends.
        dead: whether the link has no carrier.

    """

    family: int
    dst: str
    dev: str
    gateway: str = ""
    onlink: bool = False
    metric: int = 0
    protocol: str = ""
    expires: bool = False
    dead: bool = False


class NetworkFacts(Frozen):
    """The network of an origin.

    Attributes:
        links: its links; empty if its `ip` knows no JSON.
        cards: what /sys tells of each, by name.
        routes: its routes of the main table that lead somewhere.
        leaves_by: the links by which the packets of its tailscaled leave.
        operator_by: the link by which the answers to the operator leave; empty if it is not known.
        tables: other tables that its rules look up.
        resolvers: the name servers that the installer is given.

    """

    links: tuple[Link, ...] = ()
    cards: dict[str, Card] = Field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    leaves_by: tuple[str, ...] = ()
    operator_by: str = ""
    tables: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()


def is_address(text: str) -> bool:
    """Return whether this is an address with the length of its prefix."""
    try:
        ip_interface(text)
    except ValueError:
        return False
    return bool(ADDRESS.fullmatch(text))


def covers(prefix: str, address: str) -> bool:
    """Return whether a prefix holds an address."""
    try:
        return ip_interface(address).ip in ip_network(prefix, strict=False)
    except ValueError:
        return False


def is_name(text: str) -> bool:
    """Return whether restore-network.sh takes this for a link's name."""
    return bool(_NAME.fullmatch(text))


def is_mac(text: str) -> bool:
    """Return whether restore-network.sh takes this for a hardware address."""
    return bool(re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", text))
