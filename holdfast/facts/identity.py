"""Who a node is on its tailnet, from `tailscale status --json` (tailscale's ipn/ipnstate/ipnstate.go)."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from holdfast.base.errors import NotTrusted
from holdfast.base.frozen import Frozen
from holdfast.base.text import parse_object, printable
from holdfast.facts.ssh import is_key

_NODE_KEY: Final = re.compile(r"nodekey:[0-9a-f]{64}")
# tailscale's net/tsaddr/tsaddr.go: CGNATRange and TailscaleULARange.
TAILNET: Final = (ipaddress.ip_network("100.64.0.0/10"), ipaddress.ip_network("fd7a:115c:a1e0::/48"))
_NO_KEY: Final = "nodekey:" + "0" * 64


class Identity(Frozen):
    """A node as others see it; all of this is public.

    Attributes:
        node_key: public node key, `nodekey:` and 64 hexadecimal digits.
        node_id: the stable node ID that the control server gave it.
        addresses: its Tailscale addresses, in tailscaled's order: IPv4 first.
        dns_name: its MagicDNS name without the final dot; empty without MagicDNS.

    """

    node_key: str
    node_id: str
    addresses: tuple[str, ...]
    dns_name: str = ""

    def reached_at(self) -> str:
        """Return the address at which others of its tailnet reach it, whatever it is called; empty if it has none."""
        return next((address for address in self.addresses if is_of_tailnet(ipaddress.ip_address(address))), "")

    def is_called(self, name: str) -> bool:
        """Return whether this is its MagicDNS name, whole or without the tailnet's domain."""
        wanted, own = name.rstrip(".").lower(), self.dns_name.lower()
        return bool(own) and wanted in (own, own.partition(".")[0])

    def describe(self) -> str:
        """Return a short description for messages."""
        return f"{self.node_key[:20]}… ({', '.join(self.addresses) or 'no address'})"


def is_of_tailnet(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether Tailscale gives such an address to nodes; True for its IPv4 and IPv6 ranges."""
    plain = getattr(address, "ipv4_mapped", None) or address
    return any(plain in network for network in TAILNET)


def same_node(first: Identity, second: Identity) -> bool:
    """Return whether both have the same key, stable ID and addresses. The name may differ."""
    return (first.node_key, first.node_id, set(first.addresses)) == (
        second.node_key,
        second.node_id,
        set(second.addresses),
    )


def require_same_node(host: str, before: Identity | None, now: Identity | None, *, hint: str) -> None:
    """Require that a host is still the same node. If either identity is unknown, nothing is checked.

    Args:
        host: the host's name, for the message.
        before: its identity in the plan.
        now: its identity now.
        hint: what the user can do if it is another node.

    Raises:
        NotTrusted: it is another node.

    """
    if before and now and not same_node(before, now):
        raise NotTrusted(f"{host} is another node now: {now.describe()}, and was {before.describe()}.", hint=hint)


@dataclass(frozen=True, slots=True)
class Peer:
    """A node as another node sees it.

    Attributes:
        identity: who it is.
        online: whether the control server thinks so; it still does for minutes after a node is gone.
        direct: the address and port that packets go to; empty for a relay, or if none were sent lately.
        relay: code of its home relay; empty if unknown.
        last_handshake: the last WireGuard handshake, or None.
        last_seen: when the control server lost contact with it; None while it is online, or if unknown.
        expired: whether its key has expired.

    """

    identity: Identity
    online: bool
    direct: str
    relay: str
    last_handshake: datetime | None
    last_seen: datetime | None
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """What tailscaled reports about itself.

    Attributes:
        backend_state: `Running`, `NeedsLogin`, `NeedsMachineAuth`, `Stopped`, `Starting`, `NoState`, or another.
        version: tailscaled's long version.
        identity: who it is; None until it has logged in.
        has_key: whether it has a node key, even while it is down.
        key_expiry: when the node key expires; None if never, or unknown.
        expired: whether it has expired already.
        host_name: the host name that it told the control server.
        ssh_host_keys: the host keys of Tailscale's own SSH server, `TYPE BASE64`, as the control server knows them.
        peers: the other nodes, if they were requested.

    """

    backend_state: str
    version: str
    identity: Identity | None
    has_key: bool
    key_expiry: datetime | None
    expired: bool
    host_name: str
    ssh_host_keys: tuple[str, ...]
    peers: tuple[Peer, ...]


def parse_status(text: str) -> Status:
    """Parse the output of `tailscale status --json`; values of an unexpected form are left out.

    Raises:
        ValueError: it is not a JSON object.

    """
    status = parse_object(text)
    self_ = _table(status.get("Self"))
    return Status(
        backend_state=_text(status.get("BackendState")),
        version=_text(status.get("Version")),
        identity=_identity(self_),
        has_key=status.get("HaveNodeKey") is True,
        key_expiry=_time(self_.get("KeyExpiry")),
        expired=self_.get("Expired") is True,
        host_name=_text(self_.get("HostName")),
        ssh_host_keys=tuple(_keys(self_.get("sshHostKeys"))),
        peers=tuple(_peers(_table(status.get("Peer")))),
    )


def _keys(listed: Any) -> Iterator[str]:  # noqa: ANN401  parsed JSON
    for value in listed[:16] if isinstance(listed, list) else ():
        key = " ".join(value.split()[:2]) if isinstance(value, str) else ""
        if is_key(key):
            yield key


def _peers(peers: Mapping[str, Any]) -> Iterator[Peer]:
    for value in peers.values():
        peer = _table(value)
        identity = _identity(peer)
        if identity is not None:
            yield Peer(
                identity=identity,
                online=peer.get("Online") is True,
                direct=_text(peer.get("CurAddr")),
                relay=_text(peer.get("Relay")),
                last_handshake=_time(peer.get("LastHandshake")),
                last_seen=_time(peer.get("LastSeen")),
                expired=peer.get("Expired") is True,
            )


def _identity(node: Mapping[str, Any]) -> Identity | None:
    key = _text(node.get("PublicKey"))
    if not _NODE_KEY.fullmatch(key) or key == _NO_KEY:
        return None
    listed = node.get("TailscaleIPs")
    return Identity(
        node_key=key,
        node_id=_text(node.get("ID")),
        addresses=tuple(_addresses(listed if isinstance(listed, list) else [])),
        dns_name=_text(node.get("DNSName")).rstrip("."),
    )


def _addresses(listed: list[Any]) -> Iterator[str]:
    for value in listed[:16]:
        # ip_address() would accept a number, and any text may follow a %.
        if not isinstance(value, str) or "%" in value:
            continue
        try:
            yield str(ipaddress.ip_address(value))
        except ValueError:
            continue


def _table(value: Any) -> Mapping[str, Any]:  # noqa: ANN401  parsed JSON
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:  # noqa: ANN401  parsed JSON
    return printable(value[:255]) if isinstance(value, str) else ""


def _time(value: Any) -> datetime | None:  # noqa: ANN401  parsed JSON
    """Parse a time that Go wrote (RFC 3339); the year 1 means that there is none."""
    try:
        # Go prints up to nine decimals; Python 3.11 reads any number of them.
        moment = datetime.fromisoformat(value)
        # It is shown in UTC. The first and last day of the calendar cannot be converted: OverflowError.
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.year > 1 else None
