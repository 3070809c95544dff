"""An origin with IPv6 alone: no IPv4 address or route beside loopback's and the tailnet's own.

Control server and relay are reached over IPv6. The gateway has an address of the link alone, as at some providers.
"""

import base64
import json
import sys
from collections.abc import Iterator

import pytest

from lab import changed_origin, qemu, trunk
from lab.operator import Operator
from lab.runtime import Lab
from lab.tailnet import CONTROL_PORT
from tests.lab.origins.whole_runs import install, rehearse

pytestmark = [pytest.mark.lab, pytest.mark.origins]

STATE = "/var/lib/tailscale/tailscaled.state"
NETWORK = (
    "[Match]\nType=ether\n\n[Network]\n"
    f"Address={trunk.IPV6.machine}/64\nGateway={trunk.IPV6_GATEWAY}\nIPv6AcceptRA=no\nDHCP=no\n"
)


def over_ipv6() -> str:
    """Return the origin's Tailscale state with the control server's IPv6 address."""
    before, after = (f"http://{host}:{CONTROL_PORT}".encode() for host in (qemu.HOST_ADDRESS, f"[{trunk.IPV6.host}]"))
    stored = json.loads(changed_origin.text_of(STATE))
    told = {key: base64.b64encode(base64.b64decode(value).replace(before, after)) for key, value in stored.items()}
    return json.dumps({key: value.decode() for key, value in told.items()})


def add_relay(lab: Lab) -> None:
    """Let the tailnet's relay have an IPv6 address too."""
    file = lab.world.tailnet.state / "derp.yaml"
    head, number, region = file.read_text().partition("900: ")
    told = json.loads(region)
    told["nodes"].append(told["nodes"][0] | {"name": "900c", "hostname": trunk.IPV6.host, "ipv6": trunk.IPV6.host})
    told["nodes"][-1]["ipv4"] = "none"
    file.write_text(f"{head}{number}{json.dumps(told)}\n")


def restart_control(lab: Lab) -> None:
    lab.world.stop("headscale")
    lab.world.start_control()


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Lab]:
    sockets = lab.world.sockets
    # The port of the machine's SSH is the user network's of QEMU, or this network's.
    lab.power_off()
    lab.world.start("network", [sys.executable, "-m", "lab.trunk", "ipv6", str(sockets)])
    add_relay(lab)
    restart_control(lab)
    hardware = qemu.Hardware(network=trunk.network_cards(trunk.IPV6, sockets))
    files = {"/etc/systemd/network/10-static.network": NETWORK, STATE: over_ipv6()}
    with lab.other_machine(hardware, changed_origin.disk(files)):
        yield lab
        lab.power_off()
        lab.world.stop("network")
        lab.world.tailnet.configure()
        restart_control(lab)


def test_origin_has_ipv6_alone(machine: Lab) -> None:
    assert machine.ssh_local(["ip", "-4", "route", "show"]) == ""
    addresses = machine.ssh_local(["ip", "-4", "-o", "address"]).splitlines()
    assert {line.split()[1] for line in addresses} == {"lo", "tailscale0"}
    assert f"default via {trunk.IPV6_GATEWAY} " in machine.ssh_local(["ip", "-6", "route", "show", "default"])


def test_rehearsal_returns_to_it(machine: Lab, operator: Operator) -> None:
    assert rehearse(operator) == machine.ssh_local(["cat", "/proc/sys/kernel/random/boot_id"]).strip()


def test_install_from_there(machine: Lab, operator: Operator) -> None:
    """The new system has the address in its configuration: nobody leases one."""
    file = machine.run_dir / "flake" / "etc" / "systemd" / "network" / "10-static.network"
    try:
        file.write_text(NETWORK)
        install(machine, operator)
    finally:
        file.unlink()
    assert machine.ssh_local(["ip", "-4", "route", "show"]) == ""
