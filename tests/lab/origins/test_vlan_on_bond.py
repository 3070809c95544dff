"""An origin whose only way out is a VLAN on a bond of two network cards. The installer has to make both anew."""

import sys
from collections.abc import Iterator

import pytest

from lab import changed_origin, qemu, trunk
from lab.operator import Operator
from lab.runtime import Lab
from tests.lab.origins.whole_runs import rehearse

pytestmark = [pytest.mark.lab, pytest.mark.origins]

VLAN = trunk.TRUNK.vlan
NETWORKD = "/etc/systemd/network"
FILES = {
    f"{NETWORKD}/10-static.network": "",
    f"{NETWORKD}/10-bond0.netdev": (
        "[NetDev]\nName=bond0\nKind=bond\n\n[Bond]\nMode=active-backup\nMIIMonitorSec=100ms\n"
    ),
    f"{NETWORKD}/10-vlan.netdev": f"[NetDev]\nName=bond0.{VLAN}\nKind=vlan\n\n[VLAN]\nId={VLAN}\n",
    f"{NETWORKD}/20-cards.network": "[Match]\nName=en*\n\n[Network]\nBond=bond0\n",
    f"{NETWORKD}/20-bond0.network": (
        f"[Match]\nName=bond0\n\n[Network]\nVLAN=bond0.{VLAN}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    ),
    f"{NETWORKD}/20-vlan.network": (
        f"[Match]\nName=bond0.{VLAN}\n\n[Network]\nAddress={qemu.GUEST_ADDRESS}/24\n"
        f"Gateway={qemu.HOST_ADDRESS}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    ),
}


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Lab]:
    sockets = lab.world.sockets
    # The port of the machine's SSH is the user network's of QEMU, or the trunk's.
    lab.power_off()
    lab.world.start("trunk", [sys.executable, "-m", "lab.trunk", "trunk", str(sockets)])
    with lab.other_machine(
        qemu.Hardware(network=trunk.network_cards(trunk.TRUNK, sockets)), changed_origin.disk(FILES)
    ):
        yield lab
        lab.power_off()
        lab.world.stop("trunk")


def test_origin_has_one_way_out(machine: Lab) -> None:
    said = machine.ssh_local(["ip", "-4", "-o", "route", "show", "default"])
    assert f"via {qemu.HOST_ADDRESS} dev bond0.{VLAN}" in said
    assert len(said.splitlines()) == 1


def test_rehearsal_returns_to_it(machine: Lab, operator: Operator) -> None:
    assert rehearse(operator) == machine.ssh_local(["cat", "/proc/sys/kernel/random/boot_id"]).strip()
