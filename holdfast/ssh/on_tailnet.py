"""Whether a target is reached over its tailnet: a machine that leaves the tailnet at kexec is out of reach there."""

import ipaddress
import socket
from typing import Final

from holdfast.base.settings import Settings
from holdfast.facts.identity import is_of_tailnet
from holdfast.inventory.host import Host
from holdfast.ssh.endpoint import ProxyCommand
from holdfast.ssh.resolve import endpoint_for

# Tailscale's own MagicDNS names: MACHINE.TAILNET.ts.net.
MAGIC_DNS: Final = ".ts.net"


def why_on_tailnet(host: Host, settings: Settings) -> str:
    """Return why the target of a host is an address of the tailnet; empty if it is not, or if nothing shows it.

    A name counts by what it leads to: in the user's ssh config, and for this machine's resolver. With another proxy
    than `tailscale nc`, the name is resolved behind the proxy, and only its form counts.

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
    by_tailscale = isinstance(endpoint.proxy, ProxyCommand) and _is_tailscale_nc(endpoint.proxy)
    if endpoint.proxy and not by_tailscale:
        return ""
    found = resolved(name)
    if there := next((address for address in found if _of_tailnet(address)), ""):
        return f"{leads} leads to {there}, an address of the tailnet"
    if by_tailscale and not found:
        return f"only the tailnet knows the name {leads}"
    return ""


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
