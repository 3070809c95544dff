"""Whether a node can move: what in it prevents or endangers that, what would happen, and what helps.

The facts come from tailscale's sources, read at 1.103: cmd/tailscaled (--state, --encrypt-state,
--hardware-attestation), ipn/ipnlocal (which drops an attestation key without that flag), feature/tpm, types/persist
(AttestationKey), ipn/ipnstate (Expired, KeyExpiry, NodeKeySigned). None of them shows whether the control
server treats a node as ephemeral, unless its state is in memory.
"""

from datetime import datetime, timedelta
from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.base.places import STATE_DIR, TAILSCALED_STATE
from holdfast.facts.tailscale import Tailscale
from holdfast.inventory.host import Way

KEY_MARGIN: Final = timedelta(hours=1)

_STORES: Final = {
    "memory": "in memory",
    "kubernetes": "in a Kubernetes secret",
    "aws": "in the AWS parameter store",
}


class Finding(Frozen):
    """One observation about whether a node can move.

    Attributes:
        name: a word or two, such as `TPM-sealed`.
        seen: what was seen, as a sentence without full stop that names the host.
        happens: what would happen to the node, also as a sentence without full stop.
        hint: what the user can do, as a sentence; may be empty.
        lost: whether the node would be lost or cut off, so that the install is refused.

    """

    name: str
    seen: str
    happens: str
    hint: str = ""
    lost: bool = False

    def in_one_line(self) -> str:
        """Return the finding as one line for a log."""
        return " ".join(part for part in (f"{self.name}: {self.seen}: {self.happens}.", self.hint) if part)


def judge(tailscale: Tailscale, host: str, way: Way, now: datetime) -> tuple[Finding, ...]:
    """Return what prevents or endangers a node's move into the installer and the final system.

    Args:
        tailscale: the facts of its tailscaled, which is installed there.
        host: the host's name.
        way: whether it must stay on its tailnet meanwhile.
        now: the operator's time.

    Returns:
        The findings, those that would lose the node first; empty if nothing was found.

    """
    found = [
        *_of_the_state(tailscale, host),
        *_of_the_key(tailscale, host, way, now),
        *_of_the_lock(tailscale, host, way),
    ]
    return tuple(sorted(found, key=lambda finding: not finding.lost))


def _of_the_state(tailscale: Tailscale, host: str) -> list[Finding]:
    if tailscale.state_store != "file":
        where = _STORES.get(tailscale.state_store, f"in a store named {tailscale.state_store}")
        in_memory = tailscale.state_store == "memory"
        return [
            Finding(
                name="in memory, ephemeral" if in_memory else "kept elsewhere",
                seen=f"tailscaled on {host} keeps its state {where}",
                happens="it cannot be carried into the installer"
                + (", and such a node logs out and is removed when its tailscaled ends" if in_memory else ""),
                hint=f"Start it with --state={TAILSCALED_STATE} and log in again.",
                lost=True,
            )
        ]
    if tailscale.state_kind == "sealed":
        return [
            Finding(
                name="TPM-sealed",
                seen=f"the Tailscale state of {host} is sealed by its TPM",
                happens="the installer could not open it",
                hint="Start tailscaled there with --encrypt-state=false; it then writes the state unencrypted.",
                lost=True,
            )
        ]
    if tailscale.state_file != TAILSCALED_STATE:
        return [
            Finding(
                name="kept elsewhere",
                seen=f"tailscaled on {host} keeps its state in {tailscale.state_file}",
                happens=f"only {STATE_DIR} is carried",
                hint=f"Move it to {STATE_DIR}, and start tailscaled with --state={TAILSCALED_STATE}.",
                lost=True,
            )
        ]
    if tailscale.state_kind in ("missing", "unreadable"):
        return [
            Finding(
                name=f"state {tailscale.state_kind}",
                seen=f"the Tailscale state of {host} ({tailscale.state_file}) is {tailscale.state_kind}",
                happens="there is nothing to carry into the installer",
                hint="Look where tailscaled keeps its state there.",
                lost=True,
            )
        ]
    if not tailscale.attested:
        return []
    return [
        Finding(
            name="bound to hardware",
            seen=f"tailscaled on {host} proves by a key in the machine's TPM that it is this machine",
            happens="the node keeps its identity, but the installer gives no such proof, and the final system gives one"
            " with a new key or none: a tailnet whose policy requires the proof shuts the node out meanwhile",
            hint="If yours does, relax that for this node, or start tailscaled there with --hardware-attestation=false"
            " first; set the flag in the final system's configuration.",
        )
    ]


def _of_the_key(tailscale: Tailscale, host: str, way: Way, now: datetime) -> list[Finding]:
    expires = tailscale.key_expiry
    if tailscale.expired or (expires and expires <= now):
        when = f" at {expires:%Y-%m-%d %H:%M} UTC" if expires else ""
        return [
            Finding(
                name="expired",
                seen=f"the Tailscale key of {host} expired{when}",
                happens="no other node talks to it until it is renewed",
                hint="Run `tailscale up --force-reauth` there.",
                lost=True,
            )
        ]
    if expires is None:
        return []
    soon = expires - now <= KEY_MARGIN
    return [
        Finding(
            name="expiring",
            seen=f"the Tailscale key of {host} expires at {expires:%Y-%m-%d %H:%M} UTC" + (", within the hour" * soon),
            happens="from then on no other node talks to it, whichever of its systems runs",
            hint="Renew it first: `tailscale up --force-reauth`, or disable key expiry for this machine.",
            # In the standard way, the key can still be renewed when the final system runs.
            lost=soon and way is Way.TAILSCALE,
        )
    ]


def _of_the_lock(tailscale: Tailscale, host: str, way: Way) -> list[Finding]:
    # Before it has a network map, tailscaled calls its own key unsigned.
    if tailscale.identity is None or tailscale.lock == "off":
        return []
    if tailscale.lock == "unsigned":
        return [
            Finding(
                name="locked out",
                seen=f"tailnet lock is on, and the key of {host} is not signed",
                happens="no other node talks to it, nor does the operator",
                hint="Sign it on a signing node: `tailscale lock sign NODEKEY`; `tailscale lock` there shows the key.",
                lost=way is Way.TAILSCALE,
            )
        ]
    return [
        Finding(
            name="under tailnet lock",
            seen=f"tailnet lock is on, and the key of {host} is signed",
            happens="the key moves with its signature, and its own lock key with it: the archive in the vault can sign"
            " other nodes if this one is trusted to",
            hint="Do not log in again meanwhile: a new key would have to be signed. Encrypt the vault.",
        )
    ]
