"""The plan's words on the network and the files of restore-network.sh say the same, for each origin of tests/net."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.net.origins import CASES
from tests.net.promised import hold_together
from tests.net.recorded import Answers, recorded, trimmed
from tests.unit.test_scripts_restore_network import (
    ADDRESSES,
    MAC,
    OTHER_MAC,
    ROUTES_V4,
    ROUTES_V6,
    address,
    link,
    restore,
)

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="no jq here")

STATIC = [address("192.0.2.7")]
GATEWAY = {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"}


def way(dev: str, **more: Any) -> dict[str, Any]:
    return {**GATEWAY, "dev": dev, **more}


MORE: dict[str, Answers] = {
    "without --details": [ADDRESSES, ROUTES_V4, ROUTES_V6],
    "lease": [[link("eth0", addr_info=[address("192.0.2.7", dynamic=True)])], [way("eth0", protocol="dhcp")], []],
    "lease beside a static address": [
        [link("eth0", addr_info=[*STATIC, address("198.51.100.3", dynamic=True)])],
        [way("eth0", protocol="dhcp"), {"dst": "10.0.0.0/8", "gateway": "192.0.2.2", "dev": "eth0"}],
        [],
    ],
    "advertised": [
        [link("eth0", addr_info=[address("2001:db8::5", 64, dynamic=True)])],
        [],
        [way("eth0", gateway="fe80::1", protocol="ra", expires=1700)],
    ],
    "temporary address": [
        [link("eth0", addr_info=[address("2001:db8::5", 64, temporary=True), address("2001:db8::6", 64)])],
        [],
        [way("eth0", gateway="fe80::1", protocol="ra")],
    ],
    "WireGuard": [
        [link("eth0"), link("wg0", kind="wireguard", link_type="none", address="", addr_info=STATIC)],
        [way("wg0")],
        [],
    ],
    "tunnel without details": [[link("tun0", link_type="none", addr_info=STATIC)], [way("tun0")], []],
    "PPPoE": [
        [link("eth0"), link("ppp0", kind="ppp", link_type="ppp", addr_info=[address("192.0.2.7", 32)])],
        [{"dst": "default", "dev": "ppp0"}],
        [],
    ],
    "Open vSwitch": [
        [link("eth0", master="ovs-system"), link("vmbr0", kind="openvswitch", addr_info=STATIC)],
        [way("vmbr0")],
        [],
    ],
    "Open vSwitch with a MAC address of its own": [
        [link("eth0", master="ovs-system"), link("vmbr0", mac=OTHER_MAC, kind="openvswitch", addr_info=STATIC)],
        [way("vmbr0")],
        [],
    ],
    "team": [[link("eth0", master="team0"), link("team0", kind="team", addr_info=STATIC)], [way("team0")], []],
    "VLAN on a team": [
        [
            link("eth0", master="team0"),
            link("team0", kind="team"),
            link("team0.5", kind="vlan", data={"id": 5}, link="team0", addr_info=STATIC),
        ],
        [way("team0.5")],
        [],
    ],
    "VLAN on a tunnel": [
        [
            link("tap0", kind="tun"),
            link("tap0.5", kind="vlan", data={"id": 5}, link="tap0", addr_info=STATIC),
        ],
        [way("tap0.5")],
        [],
    ],
    "VLAN of an impossible tag": [
        [link("eth0"), link("v", kind="vlan", data={"id": 5000}, link="eth0", addr_info=STATIC)],
        [way("v")],
        [],
    ],
    "bridge of containers as a way out": [
        [link("br0", kind="bridge", addr_info=STATIC), link("veth1", kind="veth", master="br0")],
        [way("br0")],
        [],
    ],
    "bond of nothing": [[link("bond0", kind="bond", addr_info=STATIC)], [way("bond0")], []],
    "InfiniBand": [[link("ib0", mac="80:00:02", link_type="infiniband", addr_info=STATIC)], [way("ib0")], []],
    "DSA": [
        [link("eth0"), link("lan1", kind="dsa", link="eth0", addr_info=STATIC)],
        [way("lan1")],
        [],
    ],
    "Tailscale's own": [
        [
            link("eth0", addr_info=STATIC),
            link("tailscale0", kind="tun", link_type="none", addr_info=[address("100.64.0.1", 32)]),
        ],
        [way("eth0"), way("tailscale0")],
        [],
    ],
    "two cards of one MAC address": [
        [link("eth0", addr_info=STATIC), link("eth1", addr_info=[address("198.51.100.7")])],
        [way("eth0"), way("eth1", gateway="198.51.100.1", metric=5)],
        [],
    ],
    "a card's MAC address is changed": [[link("eth0", permaddr=OTHER_MAC, addr_info=STATIC)], [way("eth0")], []],
    "a name that networkd does not take": [
        [link("-x", mac=MAC, kind="vlan", data={"id": 4}, link="eth0", addr_info=STATIC), link("eth0")],
        [],
        [],
    ],
}


def test_each_origin_is_recorded() -> None:
    assert list(recorded()) == [case.name for case in CASES], "see tests/net/recorded.py"
    assert all(trimmed(said) == said for said in recorded().values())


@pytest.mark.parametrize("name", [*(case.name for case in CASES), *MORE])
def test_the_plan_promises_what_the_script_writes(tmp_path: Path, name: str) -> None:
    said = recorded().get(name) or MORE[name]
    files, complaints = restore(tmp_path, *said)
    hold_together(said, files, complaints)
