"""What way-back.sh tells of the network: from a folder that stands for /sys, and a program that stands for `ip`."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from holdfast.base.settings import script
from holdfast.facts.links import Card, NetworkFacts
from holdfast.facts.way_back import parse_way_back
from tests.unit.conftest import Userland

TOOLS = ("cat", "head", "tr", "sed", "readlink", "od", "uname", "date", "timeout", "grep", "cut", "tail", "sort", "ls")
MAC = "52:54:00:12:34:56"
# Each line of it is a case of the fake `ip`, by its arguments.
IP = r"""#!/bin/sh
case "$*" in
"-json -details addr") echo '[{"ifname":"eth0","link_type":"ether","address":"52:54:00:12:34:56","mtu":1400,
"addr_info":[{"family":"inet","local":"192.0.2.7","prefixlen":24,"scope":"global"}]}]' ;;
"-4 -json route show default") echo '[{"dst":"default","gateway":"192.0.2.1","dev":"eth0"}]' ;;
"-4 -json route") echo '[{"dst":"default","gateway":"192.0.2.1","dev":"eth0"},{"dst":"10.0.0.0/8","dev":"eth0"}]' ;;
"-6 -json"*) echo '[]' ;;
"-4 route get 9.9.9.9 mark 0x80000") echo '9.9.9.9 via 192.0.2.1 dev eth0 src 192.0.2.7' ;;
"route get 198.51.100.9") echo '198.51.100.9 via 192.0.2.1 dev eth1 src 192.0.2.7' ;;
rule) printf '0:\tfrom all lookup local\n9:\tfrom 192.0.2.8 lookup 100\n32766:\tfrom all lookup main\n' ;;
*) exit 1 ;;
esac
"""
OF_BUSYBOX = r"""#!/bin/sh
case "$*" in
*-json* | *mark*) echo 'ip: invalid argument' >&2; exit 1 ;;
"-4 route get 9.9.9.9") echo '9.9.9.9 via 192.0.2.1 dev wlan0  src 192.0.2.7' ;;
*) exit 1 ;;
esac
"""


def add_link(
    root: Path, name: str, files: Mapping[str, str], *, bus: str = "", driver: str = "", taint: str = ""
) -> Path:
    folder = root / "sys/class/net" / name
    folder.mkdir(parents=True)
    for file, text in {"type": "1", "mtu": "1500", "address": MAC, "uevent": f"INTERFACE={name}", **files}.items():
        (folder / file).write_text(text + "\n")
    if bus:
        device = root / f"sys/devices/{name}"
        for part in (root / f"sys/bus/{bus}", root / f"sys/drivers/{driver}", device, root / f"sys/module/{driver}"):
            part.mkdir(parents=True, exist_ok=True)
        (root / f"sys/module/{driver}/taint").write_text(taint + "\n")
        (root / f"sys/drivers/{driver}/module").symlink_to(root / f"sys/module/{driver}")
        (device / "subsystem").symlink_to(root / f"sys/bus/{bus}")
        (device / "driver").symlink_to(root / f"sys/drivers/{driver}")
        (folder / "device").symlink_to(device)
    return folder


def look(root: Path, userland: Userland, ip: str, **environment: str) -> NetworkFacts:
    tools = root.parent / "with-ip"
    tools.mkdir(exist_ok=True)
    (tools / "ip").write_text(ip)
    (tools / "ip").chmod(0o755)
    root.mkdir(exist_ok=True)
    done = subprocess.run(
        [*userland.shell, "-s"],
        env={"PATH": f"{tools}:{userland.path}", "HOLDFAST_ROOT": str(root), **environment},
        input=script("origin/way-back.sh"),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return parse_way_back(done.stdout, "cottage").network


def test_what_ip_says(tmp_path: Path, userland: Userland) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/resolv.conf").write_text("nameserver 192.0.2.53\n")
    seen = look(root, userland, IP, SSH_CONNECTION="198.51.100.9 5000 192.0.2.7 22")
    assert [(link.name, link.kind, link.mtu, link.addresses[0].address) for link in seen.links] == [
        ("eth0", "card", 1400, "192.0.2.7/24")
    ]
    assert [(route.dst, route.gateway) for route in seen.routes] == [("default", "192.0.2.1"), ("10.0.0.0/8", "")]
    assert (seen.leaves_by, seen.operator_by, seen.tables) == (("eth0",), "eth1", ("100",))
    assert seen.resolvers == ("192.0.2.53",)


def test_what_sys_says_of_links(tmp_path: Path, userland: Userland) -> None:
    root = tmp_path / "root"
    add_link(root, "eth0", {"mtu": "9000"}, bus="pci", driver="e1000e")
    (root / "sys/class/net/eth0/master").symlink_to("../br0")
    add_link(root, "eth1", {}, bus="pci", driver="r8125", taint="OE")
    (add_link(root, "wlan0", {}, bus="pci", driver="iwlwifi") / "phy80211").mkdir()
    add_link(root, "wwan0", {"type": "519", "uevent": "DEVTYPE=wwan"}, bus="usb", driver="qmi_wwan")
    (add_link(root, "br0", {"uevent": "DEVTYPE=bridge"}) / "lower_eth0").symlink_to("../eth0")
    add_link(root, "tun0", {"type": "65534", "tun_flags": "0x1", "address": ""})
    (root / "sys/class/net/bonding_masters").write_text("\n")
    seen = look(root, userland, OF_BUSYBOX)
    assert seen.links == ()
    assert seen.leaves_by == ("wlan0",)
    assert seen.cards == {
        "eth0": Card(type=1, bus="pci", driver="e1000e", mac=MAC, mtu=9000, master="br0"),
        "eth1": Card(type=1, bus="pci", driver="r8125", foreign=True, mac=MAC, mtu=1500),
        "wlan0": Card(type=1, kind="wlan", bus="pci", driver="iwlwifi", mac=MAC, mtu=1500),
        "wwan0": Card(type=519, kind="wwan", bus="usb", driver="qmi_wwan", mac=MAC, mtu=1500),
        "br0": Card(type=1, kind="bridge", mac=MAC, mtu=1500, lower=("eth0",)),
        "tun0": Card(type=65534, kind="tun", mtu=1500),
    }


@pytest.mark.parametrize("name", ["veth", "cali"])
def test_cards_are_told_however_many_other_links_there_are(tmp_path: Path, shell: list[str], name: str) -> None:
    root = tmp_path / "root"
    for number in range(100):
        add_link(root, f"{name}{number}", {})
    add_link(root, "zeth0", {}, bus="pci", driver="e1000e")
    seen = look(root, Userland(shell, "/usr/bin:/bin"), OF_BUSYBOX)
    assert seen.cards["zeth0"].driver == "e1000e"
    assert len(seen.cards) == 65


def test_a_machine_without_ip_and_sys(tmp_path: Path, shell: list[str]) -> None:
    seen = look(tmp_path / "root", Userland(shell, "/usr/bin:/bin"), "#!/bin/sh\nexit 127\n")
    assert seen == NetworkFacts()
