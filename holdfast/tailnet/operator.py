"""The tailnet as the operator's own tailscaled sees it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from holdfast.base import clock, process
from holdfast.base.errors import HoldfastError
from holdfast.base.settings import settings
from holdfast.facts.identity import Identity, Peer, Status, parse_status

STATUS_S: Final = 10


@dataclass(frozen=True, slots=True)
class View:
    """A node as the operator's tailscaled sees it; two are equal while nothing has happened to the node.

    Attributes:
        peer: the node, or None.
        why: the reason if there is none; part of a sentence.

    """

    peer: Peer | None
    why: str = ""

    def describe(self, now: datetime | None = None) -> str:
        """Return in a few words whether it is online, the last handshake, and which way packets go."""
        peer = self.peer
        if peer is None:
            return self.why
        now = now or clock.utc()
        words = ["online" if peer.online else "offline"]
        if not peer.online and peer.last_seen:
            words[0] += f" for {_age(peer.last_seen, now)}"
        words.append(f"last handshake {_age(peer.last_handshake, now)} ago" if peer.last_handshake else "no handshake")
        if peer.direct:
            words.append(f"direct to {peer.direct}")
        elif peer.relay:
            words.append(f"by relay {peer.relay}")
        else:
            words.append("no known path")
        return ", ".join(words)


def operators_status() -> Status | None:
    """Return what the operator's tailscaled says, with peers; None if it does not answer within STATUS_S seconds."""
    try:
        done = process.run_local([*settings().tailscale, "status", "--json"], timeout_s=STATUS_S)
        return parse_status(done.stdout)
    except (HoldfastError, ValueError):
        return None


def view_of(identity: Identity) -> View:
    """Return how the operator's tailscaled sees a node; takes at most STATUS_S seconds."""
    status = operators_status()
    if status is None:
        return View(None, "the operator's tailscaled does not answer")
    for peer in status.peers:
        if peer.identity.node_key == identity.node_key:
            return View(peer)
    if status.backend_state != "Running":
        return View(None, f"the operator's tailscaled is not up ({status.backend_state or 'no state'})")
    return View(None, "the operator's tailscaled does not know this node")


def path_to(identity: Identity | None) -> Literal["direct", "relay", "unknown"]:
    """Return how the operator's packets reach a node; `unknown` also if the operator is not on the tailnet."""
    peer = view_of(identity).peer if identity else None
    if peer is None:
        return "unknown"
    if peer.direct:
        return "direct"
    return "relay" if peer.relay else "unknown"


def _age(moment: datetime, now: datetime) -> str:
    seconds = max(0, round((now - moment).total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 2 * 3600 else f"{seconds // 3600} h"
