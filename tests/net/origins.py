"""The networks of origins, as `ip` makes them, each with what its installer does not have."""

from dataclasses import dataclass

CARDS = {"eno1": "52:54:00:00:00:01", "eno2": "52:54:00:00:00:02"}
UP = "link set eno1 up\n"


@dataclass(frozen=True)
class Case:
    """An origin.

    Attributes:
        name: what is special about it, in words.
        made: the commands of `ip -batch` that make it; the cards of CARDS are there.
        left_out: its links that the installer does not make.
        routes_then: the routes of the installer where they differ, as test_way_out.py describes them.

    """

    name: str
    made: str
    left_out: tuple[str, ...] = ()
    routes_then: tuple[str, ...] | None = None


def _static(address: str = "192.0.2.7/24", gateway: str = "192.0.2.1", dev: str = "eno1") -> str:
    return f"addr add {address} dev {dev}\nroute add default via {gateway} dev {dev}\n"


_BOND = (
    "link add bond0 type bond mode {mode} miimon 100\n"
    "link set eno1 master bond0\nlink set eno2 master bond0\nlink set bond0 up\n"
)
_VLAN = "link add link {lower} name {name} type vlan id {id}\nlink set {name} up\n"
_BRIDGE = "link add vmbr0 type bridge\nlink set {port} master vmbr0\nlink set vmbr0 up\n"

CASES = (
    Case("static", UP + _static()),
    Case(
        "default route of protocol kernel",
        UP + _BRIDGE.format(port="eno1") + "addr add 192.168.7.5/24 dev vmbr0\n"
        "route add default via 192.168.7.1 dev vmbr0 proto kernel onlink\n",
    ),
    Case(
        "gateway as peer",
        UP + "addr add 203.0.113.5 peer 10.0.0.1/32 dev eno1\nroute add default via 10.0.0.1 dev eno1\n",
    ),
    Case(
        "gateway as peer, on a bridge with protocol kernel",
        UP + _BRIDGE.format(port="eno1") + "addr add 203.0.113.5 peer 10.0.0.1/32 dev vmbr0\n"
        "addr add 203.0.113.6/32 dev vmbr0\nroute add default via 10.0.0.1 dev vmbr0 proto kernel\n",
    ),
    Case(
        "gateway on-link",
        UP + "addr add 203.0.113.5/32 dev eno1\nroute add default via 10.0.0.1 dev eno1 onlink\n",
    ),
    Case(
        "gateway behind a link route",
        UP + "addr add 203.0.113.5/32 dev eno1\nroute add 172.31.1.1 dev eno1\n"
        "route add default via 172.31.1.1 dev eno1\n",
    ),
    Case(
        "gateway behind a link route that the kernel is said to have made",
        UP + "addr add 203.0.113.5/32 dev eno1\nroute add 172.31.1.1 dev eno1 proto kernel scope link\n"
        "route add default via 172.31.1.1 dev eno1 proto kernel\n",
    ),
    Case(
        "gateway of the other family",
        UP + "addr add 203.0.113.5/32 dev eno1\nroute add 0.0.0.0/0 via inet6 fe80::1 dev eno1\n"
        "route add ::/0 via fe80::1 dev eno1\nroute add unreachable fd00::/8\n",
    ),
    Case(
        "IPv6 only",
        UP + "addr add 2001:db8::7/64 dev eno1\nroute add ::/0 via 2001:db8::1 dev eno1\n",
    ),
    Case(
        "IPv6 only, link-local gateway",
        UP + "addr add 2001:db8::7/64 dev eno1\nroute add ::/0 via fe80::1 dev eno1\n",
    ),
    Case(
        "IPv6 only, gateway outside of the prefix",
        UP + "addr add 2001:db8::7/128 dev eno1\nroute add ::/0 via 2001:db8:ffff::1 dev eno1 onlink\n",
    ),
    Case("VLAN", UP + _VLAN.format(lower="eno1", name="eno1.4000", id=4000) + _static(dev="eno1.4000")),
    Case(
        "VLAN with a name of its own, beside the card's address",
        UP
        + "addr add 198.51.100.7/24 dev eno1\n"
        + _VLAN.format(lower="eno1", name="uplink", id=7)
        + _static(dev="uplink"),
    ),
    Case(
        "VLAN in a VLAN",
        UP
        + "link add link eno1 name outer type vlan protocol 802.1ad id 100\nlink set outer up\n"
        + _VLAN.format(lower="outer", name="outer.7", id=7)
        + _static(dev="outer.7"),
    ),
    Case("bond", _BOND.format(mode="active-backup") + _static(dev="bond0")),
    Case(
        "bond of LACP",
        _BOND.format(mode="802.3ad lacp_rate fast xmit_hash_policy layer3+4 min_links 1") + _static(dev="bond0"),
    ),
    Case(
        "bond with a MAC address of its own",
        "link add bond0 address 06:00:00:00:00:99 type bond mode balance-xor miimon 50\n"
        "link set eno1 master bond0\nlink set eno2 master bond0\nlink set bond0 up\n" + _static(dev="bond0"),
    ),
    Case(
        "VLAN on a bond",
        _BOND.format(mode="active-backup")
        + _VLAN.format(lower="bond0", name="bond0.40", id=40)
        + _static(dev="bond0.40"),
    ),
    Case(
        "bridge on a VLAN on a bond",
        _BOND.format(mode="802.3ad")
        + _VLAN.format(lower="bond0", name="bond0.40", id=40)
        + _BRIDGE.format(port="bond0.40")
        + _static(dev="vmbr0"),
    ),
    Case(
        "bridge on a VLAN",
        UP + _VLAN.format(lower="eno1", name="eno1.9", id=9) + _BRIDGE.format(port="eno1.9") + _static(dev="vmbr0"),
    ),
    Case(
        "VLAN on a bridge",
        UP + _BRIDGE.format(port="eno1") + _VLAN.format(lower="vmbr0", name="vmbr0.3", id=3) + _static(dev="vmbr0.3"),
    ),
    Case(
        "bridge with a MAC address of its own, and ports of virtual machines",
        UP + "link add vmbr0 address 06:00:00:00:00:77 type bridge\nlink set eno1 master vmbr0\n"
        "tuntap add tap100 mode tap\nlink set tap100 master vmbr0\nlink set vmbr0 up\n" + _static(dev="vmbr0"),
        left_out=("tap100",),
    ),
    Case(
        "containers' bridges, and VLANs of virtual machines",
        UP + _static() + "link add docker0 type bridge\naddr add 172.17.0.1/16 dev docker0\n"
        "link set docker0 up\nlink set eno2 up\n"
        + _VLAN.format(lower="eno2", name="eno2.20", id=20)
        + "link add vmbr1 type bridge\nlink set eno2.20 master vmbr1\nlink set vmbr1 up\n",
        left_out=("docker0", "eno2.20", "vmbr1"),
    ),
    Case(
        "macvlan",
        UP + "link add link eno1 name shim address 06:00:00:00:00:55 type macvlan mode bridge\n"
        "link set shim up\n" + _static(dev="shim"),
    ),
    Case(
        "two default routes with metrics",
        UP + "link set eno2 up\naddr add 192.0.2.7/24 dev eno1\naddr add 198.51.100.7/24 dev eno2\n"
        "route add default via 192.0.2.1 dev eno1 metric 200\n"
        "route add default via 198.51.100.1 dev eno2 metric 100\n",
    ),
    Case(
        "several next hops on a link",
        UP + "addr add 192.0.2.7/24 dev eno1\n"
        "route add default nexthop via 192.0.2.1 dev eno1 weight 3 nexthop via 192.0.2.2 dev eno1\n",
    ),
    Case(
        "several next hops on two links",
        UP + "link set eno2 up\naddr add 192.0.2.7/24 dev eno1\naddr add 198.51.100.7/24 dev eno2\n"
        "route add default metric 10 nexthop via 192.0.2.1 dev eno1 nexthop via 198.51.100.1 dev eno2\n",
        routes_then=("default 192.0.2.1 eno1 metric 10", "default 198.51.100.1 eno2 metric 11"),
    ),
    Case(
        "several next hops of IPv6",
        UP + "addr add 2001:db8::7/64 dev eno1\nroute add ::/0 nexthop via 2001:db8::1 dev eno1"
        " nexthop via 2001:db8::2 dev eno1\n",
    ),
    Case("large packets", "link set eno1 mtu 9000\n" + UP + _static()),
    Case(
        "small packets on a VLAN on a bond with large ones",
        _BOND.format(mode="active-backup")
        + "link set bond0 mtu 9000\n"
        + _VLAN.format(lower="bond0", name="bond0.40", id=40)
        + "link set bond0.40 mtu 1400\n"
        + _static(dev="bond0.40"),
    ),
    Case(
        "large packets on a VLAN and its bridge",
        "link set eno1 mtu 9000\n"
        + UP
        + _VLAN.format(lower="eno1", name="eno1.9", id=9)
        + "link add vmbr0 type bridge\nlink set eno1.9 master vmbr0\nlink set vmbr0 up\n"
        + _static(dev="vmbr0"),
    ),
    Case(
        "source address of the route",
        UP + "addr add 192.0.2.7/24 dev eno1\naddr add 203.0.113.9/32 dev eno1\n"
        "route add default via 192.0.2.1 dev eno1 src 203.0.113.9\n",
    ),
    Case(
        "source address of the route, on the loopback",
        UP + "addr add 192.0.2.7/24 dev eno1\naddr add 203.0.113.9/32 dev lo\n"
        "route add default via 192.0.2.1 dev eno1 src 203.0.113.9\n",
    ),
    Case(
        "source address of the route, on a dummy",
        UP + "addr add 192.0.2.7/24 dev eno1\nlink add service type dummy\nlink set service up\n"
        "addr add 203.0.113.9/32 dev service\nroute add default via 192.0.2.1 dev eno1 src 203.0.113.9\n",
    ),
    Case(
        "limits of a route",
        UP + "addr add 192.0.2.7/24 dev eno1\nroute add default via 192.0.2.1 dev eno1 mtu 1400 advmss 1360\n"
        "route add 10.0.0.0/8 via 192.0.2.2 dev eno1 metric 5\nroute add blackhole 10.9.0.0/16\n",
    ),
    Case("default route without a gateway", UP + "addr add 192.0.2.7/32 dev eno1\nroute add default dev eno1\n"),
    Case(
        "prefix without a route of the kernel's, as NetworkManager does it",
        UP + "addr add 192.0.2.7/24 dev eno1 noprefixroute\n"
        "route add 192.0.2.0/24 dev eno1 proto kernel scope link src 192.0.2.7 metric 100\n"
        "route add default via 192.0.2.1 dev eno1 proto static metric 100\n",
    ),
    Case(
        "address that is used for answers only",
        UP + "addr add 2001:db8::7/64 dev eno1 preferred_lft 0\naddr add 2001:db8::8/64 dev eno1\n"
        "route add ::/0 via fe80::1 dev eno1 metric 512\n",
    ),
    Case(
        "lease without an end",
        UP + "addr add 192.0.2.7/24 dev eno1\nroute add default via 192.0.2.1 dev eno1 proto dhcp metric 100\n",
    ),
    Case(
        "tunnel beside the way out",
        UP + _static() + "tuntap add tun0 mode tun\naddr add 10.8.0.2/24 dev tun0\nlink set tun0 up\n"
        "route add 10.99.0.0/16 via 10.8.0.1 dev tun0\n",
        left_out=("tun0",),
        routes_then=("default 192.0.2.1 eno1",),
    ),
)
