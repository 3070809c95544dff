"""The tailnet as the operator's own tailscaled sees it."""

from typing import Final, Literal

from tasks.model.errors import HoldfastError
from tasks.model.settings import settings
from tasks.nixcli.run import run_local
from tasks.tailnet.identity import Identity, Peer, parse_status

STATUS_S: Final = 15


def find_peer(identity: Identity) -> Peer | None:
    """Return how the operator's tailscaled sees a node; None if it does not, or does not answer."""
    try:
        done = run_local([*settings().tailscale, "status", "--json"], timeout_s=STATUS_S)
        peers = parse_status(done.stdout).peers
    except (HoldfastError, ValueError):
        return None
    return next((peer for peer in peers if peer.identity.node_key == identity.node_key), None)


def path_to(identity: Identity | None) -> Literal["direct", "relay", "unknown"]:
    """Say how the operator's packets reach a node; `unknown` for an operator that is not on the tailnet itself."""
    peer = find_peer(identity) if identity else None
    if peer is None:
        return "unknown"
    if peer.direct:
        return "direct"
    return "relay" if peer.relay else "unknown"
