"""Whether a target is reached over its tailnet: a machine that leaves the tailnet at kexec is out of reach there."""

import ipaddress
import socket
from typing import Final

from holdfast.base.settings import Settings
from holdfast.facts.identity import is_of_tailnet
from holdfast.inventory.host import Host
from holdfast.ssh.endpoint import ProxyCommand
from holdfast.ssh.resolve import endpoint_for
from holdfast.tailnet.operator import operators_status

# Tailscale's own MagicDNS names: MACHINE.TAILNET.ts.net.
MAGIC_DNS: Final = ".ts.net"


def why_on_tailnet(host: Host, settings: Settings) -> str:
    """Return why the target of a host is an address of the tailnet; empty if it is not, or if nothing shows it.

    A name counts by what it leads to: in the user's ssh config, and for this machine's resolver. Behind a proxy it may
    lead elsewhere, so there the operator's tailscaled is asked whether it has a node of that name.

    Raises:
        ConfigError: see endpoint_for.

    """
    endpoint = endpoint_for(host, settings)
    leads = endpoint.address if endpoint.address == host.target else f"{endpoint.address} ({host.target})"
    name = endpoint.address.rstrip(".").lower()
    if _of_tailnet(name):
        return f"{leads} is an address of the tailnet"
    if name.endswith(MAGIC_DNS):
        return f"{leads} is a MagicDNS name"
    found = resolved(name)
    if endpoint.proxy is None:
        there = next((address for address in found if _of_tailnet(address)), "")
        return f"{leads} leads to {there}, an address of the tailnet" if there else ""
    if name in _nodes():
        return f"{leads} is a node of the tailnet"
    by_tailscale = isinstance(endpoint.proxy, ProxyCommand) and _is_tailscale_nc(endpoint.proxy)
    if by_tailscale and (not found or any(_of_tailnet(address) for address in found)):
        return f"{leads} is a name that only the tailnet knows"
    return ""


def _nodes() -> set[str]:
    """Return the names of the nodes that the operator's tailscaled knows, with their domain and without."""
    status = operators_status()
    full = [peer.identity.dns_name.lower() for peer in status.peers] if status else []
    return {name for dns in full if dns for name in (dns, dns.partition(".")[0])}


def resolved(name: str) -> tuple[str, ...]:
    """Return the addresses of a name or address, as this machine's resolver knows them; none if it does not."""
    try:
        return tuple(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(name, None)))
    except (OSError, UnicodeError):
        return ()


def _of_tailnet(text: str) -> bool:
    try:
        return is_of_tailnet(ipaddress.ip_address(text))
    except ValueError:
        return False


def _is_tailscale_nc(proxy: ProxyCommand) -> bool:
    words = " ".join(proxy.argv).split()
    return "nc" in words and any("tailscale" in word for word in words)
