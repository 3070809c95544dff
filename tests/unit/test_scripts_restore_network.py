"""restore-network.sh: what `ip` said in the origin becomes files for networkd. tests/net lets networkd read them."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "nix/scripts/installer/restore-network.sh"
MAC = "52:54:00:12:34:56"
CARD_FILE = "10-525400123456.network"
OTHER_MAC = "52:54:00:12:34:57"
OTHER_FILE = "10-525400123457.network"
AUTO = "DHCP=yes\nIPv6AcceptRA=yes\n"

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="no jq here")


def restore(folder: Path, addrs: object, v4: object = (), v6: object = ()) -> tuple[dict[str, str], str]:
    """Run the script; return the files by name, and what it says."""
    arguments = []
    for name, said in (("addrs", addrs), ("v4", v4), ("v6", v6)):
        (folder / name).write_text(json.dumps(said))
        arguments.append(str(folder / name))
    written = folder / "network"
    done = subprocess.run(["dash", str(SCRIPT), *arguments, str(written)], check=True, capture_output=True, text=True)
    return {path.name: path.read_text() for path in sorted(written.iterdir())}, done.stderr


def address(local: str, prefixlen: int = 24, **more: object) -> dict[str, object]:
    family = "inet6" if ":" in local else "inet"
    return {"family": family, "local": local, "prefixlen": prefixlen, "scope": "global", **more}


def link(name: str, mac: str = MAC, kind: str = "", **more: Any) -> dict[str, Any]:
    info = {"linkinfo": {"info_kind": kind, "info_data": more.pop("data", {})}} if kind else {}
    return {"ifname": name, "link_type": "ether", "address": mac, "mtu": 1500, "addr_info": [], **info, **more}


def card(text: str, mac: str = MAC) -> str:
    return f"[Match]\nMACAddress={mac}\nType=ether\n[Network]\n{AUTO}{text}"


ADDRESSES: list[dict[str, Any]] = [
    {"ifname": "lo", "link_type": "loopback", "address": "00:00:00:00:00:00", "addr_info": []},
    {"ifname": "ens3", "link_type": "ether", "address": "52:54:00:12:34:56", "master": "br0", "addr_info": []},
    {
        "ifname": "br0",
        "link_type": "ether",
        "address": "52:54:00:12:34:56",
        "addr_info": [
            {"family": "inet", "local": "192.0.2.7", "prefixlen": 24, "scope": "global"},
            {"family": "inet", "local": "198.51.100.9", "prefixlen": 24, "scope": "global", "dynamic": True},
            {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
            {"family": "inet6", "local": "2001:db8::7", "prefixlen": 64, "scope": "global"},
        ],
    },
    {"ifname": "tailscale0", "link_type": "none", "addr_info": [{"local": "100.64.0.1", "prefixlen": 32}]},
    {"ifname": "ens4", "link_type": "ether", "address": "52:54:00:00:00:04\n[x]", "addr_info": []},
]
ROUTES_V4: list[dict[str, Any]] = [
    {"dst": "default", "gateway": "192.0.2.1", "dev": "br0", "protocol": "static", "flags": ["onlink"]},
    {"dst": "192.0.2.0/24", "dev": "br0", "protocol": "kernel"},
    {"dst": "10.9.0.0/16", "gateway": "192.0.2.2\nDHCP=no", "dev": "br0"},
    {"dst": "10.8.0.0/16", "via": {"family": "inet6", "host": "fe80::9"}, "dev": "br0", "metric": 5},
    {"dst": "100.64.0.0/10", "dev": "tailscale0"},
]
ROUTES_V6: list[dict[str, Any]] = [{"dst": "default", "gateway": "2001:db8::1", "dev": "br0"}]


def test_static_addresses_and_routes_go_to_the_card_behind_them(tmp_path: Path) -> None:
    files, said = restore(tmp_path, ADDRESSES, ROUTES_V4, ROUTES_V6)
    assert said == ""
    assert files == {
        CARD_FILE: card(
            "Address=192.0.2.7/24\nAddress=2001:db8::7/64\n"
            "[Route]\nDestination=0.0.0.0/0\nGateway=192.0.2.1\nGatewayOnLink=yes\n"
            "[Route]\nDestination=10.8.0.0/16\nGateway=fe80::9\nMetric=5\n"
            "[Route]\nDestination=::/0\nGateway=2001:db8::1\n"
        )
    }


DEFAULT = {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"}
V4 = "[Route]\nDestination=0.0.0.0/0\n"
STATIC = [address("192.0.2.7")]
LEASED = [address("192.0.2.7", dynamic=True)]


@pytest.mark.parametrize(
    ("addresses", "v4", "v6", "expected"),
    [
        (STATIC, [DEFAULT | {"protocol": "kernel"}], [], f"Address=192.0.2.7/24\n{V4}Gateway=192.0.2.1\n"),
        (STATIC, [{"dst": "default", "dev": "eth0", "protocol": "kernel"}], [], f"Address=192.0.2.7/24\n{V4}"),
        (
            [address("203.0.113.5", 32, address="10.0.0.1")],
            [DEFAULT | {"gateway": "10.0.0.1"}],
            [],
            f"[Address]\nAddress=203.0.113.5/32\nPeer=10.0.0.1/32\n{V4}Gateway=10.0.0.1\n",
        ),
        (
            [address("203.0.113.5", 32)],
            [DEFAULT | {"gateway": "10.0.0.1"}],
            [],
            f"Address=203.0.113.5/32\n{V4}Gateway=10.0.0.1\nGatewayOnLink=yes\n",
        ),
        (
            [address("203.0.113.5", 32)],
            [{"dst": "10.0.0.0/8", "dev": "eth0"}, DEFAULT | {"gateway": "10.0.0.1"}],
            [],
            f"Address=203.0.113.5/32\n[Route]\nDestination=10.0.0.0/8\n{V4}Gateway=10.0.0.1\n",
        ),
        (
            [address("2001:db8:0:1::7", 63)],
            [],
            [DEFAULT | {"gateway": "2001:db8::1"}, DEFAULT | {"gateway": "2001:db8:0:2::1", "metric": 7}],
            "Address=2001:db8:0:1::7/63\n[Route]\nDestination=::/0\nGateway=2001:db8::1\n"
            "[Route]\nDestination=::/0\nGateway=2001:db8:0:2::1\nGatewayOnLink=yes\nMetric=7\n",
        ),
        (LEASED, [DEFAULT | {"protocol": "dhcp", "metric": 100}], [], ""),
        (STATIC, [DEFAULT | {"protocol": "dhcp"}], [], f"Address=192.0.2.7/24\n{V4}Gateway=192.0.2.1\n"),
        (STATIC, [], [DEFAULT | {"gateway": "fe80::1", "protocol": "ra", "expires": 1700}], "Address=192.0.2.7/24\n"),
        (STATIC, [], [DEFAULT | {"gateway": "fe80::1", "protocol": "kernel", "expires": 9}], "Address=192.0.2.7/24\n"),
        (
            [*STATIC, address("203.0.113.9", 32)],
            [DEFAULT | {"prefsrc": "203.0.113.9", "metrics": [{"mtu": 1400, "advmss": 1360}]}],
            [],
            f"Address=192.0.2.7/24\nAddress=203.0.113.9/32\n{V4}Gateway=192.0.2.1\nPreferredSource=203.0.113.9\n"
            "MTUBytes=1400\nTCPAdvertisedMaximumSegmentSize=1360\n",
        ),
        (STATIC, [DEFAULT | {"prefsrc": "192.0.2.99"}], [], f"Address=192.0.2.7/24\n{V4}Gateway=192.0.2.1\n"),
        (
            STATIC,
            [
                {
                    "dst": "default",
                    "nexthops": [
                        {"gateway": "192.0.2.1", "dev": "eth0", "weight": 3},
                        {"gateway": "10.0.0.2", "dev": "eth0", "weight": 1},
                    ],
                }
            ],
            [],
            f"Address=192.0.2.7/24\n{V4}MultiPathRoute=192.0.2.1 3\nMultiPathRoute=10.0.0.2\n"
            "[Route]\nDestination=10.0.0.2\nScope=link\n",
        ),
        (STATIC, [{"type": "unreachable", "dst": "10.0.0.0/8", "dev": "eth0"}], [], "Address=192.0.2.7/24\n"),
        (
            [address("192.0.2.7", preferred_life_time=0)],
            [],
            [],
            "[Address]\nAddress=192.0.2.7/24\nPreferredLifetime=0\n",
        ),
    ],
)
def test_addresses_and_routes_of_a_card(
    tmp_path: Path, addresses: object, v4: object, v6: object, expected: str
) -> None:
    files, said = restore(tmp_path, [link("eth0", addr_info=addresses)], v4, v6)
    assert (files, said) == ({CARD_FILE: card(expected)}, "")


BOND = {
    "mode": "802.3ad",
    "miimon": 100,
    "ad_lacp_rate": "fast",
    "xmit_hash_policy": "layer3+4",
    "min_links": 1,
    "primary": "eno1",
}
PORT = {"info_slave_kind": "bond", "info_slave_data": {"perm_hwaddr": OTHER_MAC}}


def test_bond_with_a_vlan_and_a_bridge_is_made_anew(tmp_path: Path) -> None:
    files, _ = restore(
        tmp_path,
        [
            link("eno1", master="bond0"),
            link("eno2", master="bond0", linkinfo=PORT, permaddr=OTHER_MAC),
            link("bond0", kind="bond", data=BOND, mtu=9000),
            link("bond0.7", kind="vlan", data={"id": 7, "protocol": "802.1ad"}, link="bond0", master="vmbr0"),
            link("tap1", "06:00:00:00:00:01", "tun", master="vmbr0"),
            link("vmbr0", "06:00:00:00:00:09", "bridge", data={"stp_state": 1}, addr_info=STATIC),
            link("docker0", "06:00:00:00:00:0a", "bridge", addr_info=[address("172.17.0.1", 16)]),
        ],
        [DEFAULT | {"dev": "vmbr0"}],
    )
    port = "Type=ether\n[Network]\nLinkLocalAddressing=no\nBond=bond0\n"
    assert files == {
        "09-bond0.netdev": "[NetDev]\nName=bond0\nKind=bond\nMACAddress=52:54:00:12:34:56\n[Bond]\nMode=802.3ad\n"
        "MIIMonitorSec=100ms\nLACPTransmitRate=fast\nTransmitHashPolicy=layer3+4\nMinLinks=1\n",
        "09-bond0.network": "[Match]\nName=bond0\n[Link]\nMTUBytes=9000\n"
        "[Network]\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\nVLAN=bond0.7\n",
        "09-bond0.7.netdev": "[NetDev]\nName=bond0.7\nKind=vlan\nMACAddress=52:54:00:12:34:56\n"
        "[VLAN]\nId=7\nProtocol=802.1ad\n",
        "09-bond0.7.network": "[Match]\nName=bond0.7\n[Network]\nLinkLocalAddressing=no\nBridge=vmbr0\n",
        "09-vmbr0.netdev": "[NetDev]\nName=vmbr0\nKind=bridge\nMACAddress=06:00:00:00:00:09\n[Bridge]\nSTP=yes\n",
        "09-vmbr0.network": f"[Match]\nName=vmbr0\n[Network]\n{AUTO}Address=192.0.2.7/24\n{V4}Gateway=192.0.2.1\n",
        CARD_FILE: f"[Match]\nPermanentMACAddress={MAC}\n{port}PrimarySlave=yes\n",
        OTHER_FILE: f"[Match]\nPermanentMACAddress={OTHER_MAC}\n{port}",
    }


@pytest.mark.parametrize(
    ("links", "routes", "name", "part"),
    [
        # Without --details.
        ([link("eno1"), link("eno1.4000", link="eno1", addr_info=STATIC)], [], "09-eno1.4000.netdev", "Id=4000\n"),
        ([link("eno1"), link("vlan7", link="eno1", addr_info=STATIC)], [], CARD_FILE, "VLAN=vlan7\n"),
        (
            [
                link("eno1", master="bond0", flags=["SLAVE"]),
                link("eno2", master="bond0", flags=["SLAVE"], permaddr=OTHER_MAC),
                link("bond0", flags=["MASTER"], addr_info=STATIC),
            ],
            [],
            OTHER_FILE,
            f"PermanentMACAddress={OTHER_MAC}\nType=ether\n[Network]\nLinkLocalAddressing=no\nBond=bond0\n",
        ),
        # Open vSwitch and teams: the card gets what they had.
        (
            [link("eno1", master="team0"), link("team0", kind="team", addr_info=STATIC)],
            [DEFAULT | {"dev": "team0"}],
            CARD_FILE,
            f"Address=192.0.2.7/24\n{V4}Gateway=192.0.2.1\n",
        ),
        (
            [
                link("eno1", master="ovs-system"),
                link("ovs-system", OTHER_MAC, "openvswitch"),
                link("vmbr0", kind="openvswitch", addr_info=STATIC),
            ],
            [DEFAULT | {"dev": "vmbr0"}],
            CARD_FILE,
            f"Address=192.0.2.7/24\n{V4}Gateway=192.0.2.1\n",
        ),
        # Ports of a switch in the machine have one MAC address, and the names that the kernel gives.
        (
            [
                link("eth0"),
                link("wan", kind="dsa", link="eth0", addr_info=STATIC),
                link("lan1", kind="dsa", link="eth0"),
            ],
            [DEFAULT | {"dev": "wan"}],
            "09-wan.network",
            f"[Match]\nName=wan\nType=dsa\n[Network]\n{AUTO}Address=192.0.2.7/24\n{V4}Gateway=192.0.2.1\n",
        ),
        ([link("eth0"), link("wan", kind="dsa", link="eth0")], [], CARD_FILE, "LinkLocalAddressing=ipv6\n"),
        # A MAC address that the origin gave its card.
        (
            [link("eno1", permaddr=OTHER_MAC)],
            [],
            OTHER_FILE,
            f"PermanentMACAddress={OTHER_MAC}\nType=ether\n[Link]\nMACAddress={MAC}\n",
        ),
        ([link("eno1", mtu=1400)], [], CARD_FILE, "[Link]\nMTUBytes=1400\n"),
        (
            [link("eno1"), link("m", OTHER_MAC, "macvlan", data={"mode": "vepa"}, link="eno1", addr_info=STATIC)],
            [],
            "09-m.netdev",
            "[MACVLAN]\nMode=vepa\n",
        ),
        (
            [link("eno1"), link("lo", link_type="loopback", addr_info=[address("203.0.113.9", 32)])],
            [DEFAULT | {"dev": "eno1", "prefsrc": "203.0.113.9"}],
            "09-lo.network",
            "[Match]\nName=lo\n[Network]\nAddress=203.0.113.9/32\n",
        ),
    ],
)
def test_links_of_other_kinds(tmp_path: Path, links: object, routes: object, name: str, part: str) -> None:
    files, said = restore(tmp_path, links, routes)
    assert part in files[name]
    assert said == ""


def test_next_hops_on_two_links_follow_each_other(tmp_path: Path) -> None:
    hops = [{"gateway": "192.0.2.1", "dev": "eth0"}, {"gateway": "198.51.100.1", "dev": "eth1"}]
    files, _ = restore(
        tmp_path,
        [link("eth0", addr_info=STATIC), link("eth1", OTHER_MAC, addr_info=[address("198.51.100.7")])],
        [{"dst": "default", "metric": 10, "nexthops": hops}],
    )
    assert files[CARD_FILE].endswith(f"{V4}Gateway=192.0.2.1\nMetric=10\n")
    assert files[OTHER_FILE].endswith(f"{V4}Gateway=198.51.100.1\nMetric=11\n")


@pytest.mark.parametrize(
    "last",
    [
        link("wg0", kind="wireguard", link_type="none", addr_info=STATIC),
        link("ppp0", link_type="ppp", addr_info=STATIC),
        link("wwan0", link_type="rawip", addr_info=STATIC),
        link("eth0.5", kind="vlan", link="gone", data={"id": 5}, addr_info=STATIC),
        link("eth0.0", kind="vlan", link="eth0", data={"id": 4095}, addr_info=STATIC),
        link("br0", OTHER_MAC, "bridge", addr_info=STATIC),
        link("b\n[x]", kind="vlan", link="eth0", data={"id": 5}, addr_info=STATIC),
        link("%i", kind="vlan", link="eth0", data={"id": 5}, addr_info=STATIC),
    ],
)
def test_way_out_that_cannot_be_made_is_told(tmp_path: Path, last: dict[str, Any]) -> None:
    files, said = restore(tmp_path, [link("eth0"), last], [DEFAULT | {"dev": last["ifname"]}])
    assert files == {CARD_FILE: card("")}
    assert said.startswith("restore-network: cannot make ")
    assert said.count("\n") == 1


def test_answers_that_are_no_links_and_no_routes_do_no_harm(tmp_path: Path) -> None:
    wrong = [None, 5, "x", {}, {"ifname": 3}, link("eth0", master=7, linkinfo={"info_kind": None})]
    files, _ = restore(tmp_path, wrong, [None, 5, {}, {"dst": "default", "gateway": ":::1.2", "dev": "eth0"}])
    assert list(files) == [CARD_FILE]
