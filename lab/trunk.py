"""Networks of the lab's own for its machine: a trunk that carries one VLAN, and one with IPv6 alone.

`python -m lab.trunk NETWORK SOCKETS` runs in the lab's namespace: a switch, with the lab's own addresses on a tap
device there; so it needs nothing of this machine's kernel but that. Each port is a unix socket (QEMU's
`-netdev dgram`): a datagram is a frame. It also forwards what QEMU's user network would: the machine's SSH to the
lab's loopback, and the control server to the machine.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.qemu import GUEST_ADDRESS, HOST_ADDRESS
from lab.tailnet import CONTROL_PORT
from lab.world import SSH_PORT

_TAP: Final = "switch"
_LONGEST: Final = 65536
# include/uapi/linux/if_tun.h
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x2, 0x1000
_TAGGED: Final = struct.pack("!H", 0x8100)  # IEEE 802.1Q, 9.4; behind both addresses


@dataclass(frozen=True, slots=True)
class Network:
    """A network.

    Attributes:
        ports: how many cards the machine has in it.
        addresses: the lab's own addresses, with their prefixes; the machine finds the control server at the first.
        machine: the machine's address.
        vlan: the VLAN that all frames are of; 0 for frames without a tag.

    """

    ports: int
    addresses: tuple[str, ...]
    machine: str
    vlan: int = 0

    @property
    def host(self) -> str:
        """The lab's first address."""
        return self.addresses[0].partition("/")[0]

    @property
    def tag(self) -> bytes:
        """The VLAN's tag in a frame; empty if there is none."""
        return _TAGGED + struct.pack("!H", self.vlan) if self.vlan else b""


TRUNK: Final = Network(ports=2, addresses=(f"{HOST_ADDRESS}/24",), machine=GUEST_ADDRESS, vlan=7)
IPV6_GATEWAY: Final = "fe80::1"
IPV6: Final = Network(ports=1, addresses=("fd00:6::2/64", f"{IPV6_GATEWAY}/64"), machine="fd00:6::15")
"""As at some providers: the gateway has an address of the link alone."""
NETWORKS: Final = {"trunk": TRUNK, "ipv6": IPV6}


def network_cards(network: Network, sockets: Path) -> tuple[str, ...]:
    """Return QEMU's arguments for a machine with a card in each port."""
    cards: list[str] = []
    for number in range(network.ports):
        name = f"net{number or ''}"
        ends = (
            f"local.type=unix,local.path={_card(sockets, number)},remote.type=unix,remote.path={_port(sockets, number)}"
        )
        cards += ["-netdev", f"dgram,id={name},{ends}"]
        cards += ["-device", f"virtio-net-pci,netdev={name},mac=52:54:00:12:34:{0x56 + number:02x}"]
    return tuple(cards)


def _card(sockets: Path, number: int) -> Path:
    return sockets / f"card{number}"


def _port(sockets: Path, number: int) -> Path:
    return sockets / f"port{number}"


def tagged(frame: bytes, network: Network) -> bytes:
    """Return a frame with the network's tag."""
    return frame[:12] + network.tag + frame[12:]


def untagged(frame: bytes, network: Network) -> bytes | None:
    """Return a frame of the network without its tag; None for a frame of a VLAN that is not the network's."""
    if frame[12:14] != _TAGGED:
        return None if network.vlan else frame
    if struct.unpack("!H", frame[14:16])[0] & 0xFFF != network.vlan:
        return None
    return frame[:12] + frame[16:]


class Switch:
    """Carries frames between the tap device and the ports.

    Args:
        network: the network.
        tap: the tap device.
        ports: the sockets.
        cards: where QEMU listens, for each port.

    """

    def __init__(self, network: Network, tap: int, ports: list[socket.socket], cards: list[Path]) -> None:
        self._network, self._tap, self._ports, self._cards = network, tap, ports, cards
        self._seen: dict[bytes, int] = {}

    def to_machine(self) -> None:
        """Carry a frame to the port where its receiver was heard last; to all ports if that is not known."""
        frame = os.read(self._tap, _LONGEST)
        known = self._seen.get(frame[:6])
        for number in range(len(self._ports)) if known is None else (known,):
            with contextlib.suppress(OSError):  # the machine is off
                self._ports[number].sendto(tagged(frame, self._network), str(self._cards[number]))

    def from_machine(self, number: int) -> None:
        """Carry a frame from a port to the tap device, if it is of the network."""
        frame = untagged(self._ports[number].recv(_LONGEST), self._network)
        if frame is not None:
            self._seen[frame[6:12]] = number
            os.write(self._tap, frame)


def open_tap(network: Network) -> int:
    """Make the tap device, with the lab's addresses on it, and return its descriptor."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH", _TAP.encode(), _IFF_TAP | _IFF_NO_PI))
    for address in network.addresses:
        # An IPv6 address is of no use while the kernel asks whether another machine has it.
        probes = ["nodad"] if ":" in address else []
        subprocess.run(["ip", "address", "add", address, "dev", _TAP, *probes], check=True)
    subprocess.run(["ip", "link", "set", _TAP, "up"], check=True)
    return tap


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_LONGEST):
            writer.write(data)
            await writer.drain()
    writer.close()


def forward(address: str, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Return what serves a connection by another one, to this address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(address, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    return serve


async def run(network: Network, sockets: Path) -> None:
    """Run the network until this process is ended."""
    ports = []
    for number in range(network.ports):
        _port(sockets, number).unlink(missing_ok=True)
        port = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        port.bind(str(_port(sockets, number)))
        ports.append(port)
    tap = open_tap(network)
    switch = Switch(network, tap, ports, [_card(sockets, number) for number in range(network.ports)])
    loop = asyncio.get_running_loop()
    loop.add_reader(tap, switch.to_machine)
    for number, port in enumerate(ports):
        loop.add_reader(port, switch.from_machine, number)
    await asyncio.start_server(forward(network.machine, 22), "127.0.0.1", SSH_PORT)
    control = await asyncio.start_server(forward("127.0.0.1", CONTROL_PORT), network.host, CONTROL_PORT)
    await control.serve_forever()


if __name__ == "__main__":
    asyncio.run(run(NETWORKS[sys.argv[1]], Path(sys.argv[2])))
