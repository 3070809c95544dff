"""Whether the node's state, the SSH host keys and the user's files are still there after the first start."""

import posixpath
from collections.abc import Iterator
from typing import Final

from holdfast.base.places import HOLDFAST_DIR, STATE_DIR
from holdfast.inventory.host import Host
from holdfast.plan.configuration import Configuration
from holdfast.plan.places import place_of
from holdfast.plan.plan import Plan
from holdfast.plan.refusals.flags import flag, switch
from holdfast.plan.refusals.login import serves_tailscale_ssh
from holdfast.plan.refusals.refusal import Refusal
from holdfast.plan.system import MACHINE_ID

# Types of host keys: as the protocol names them (RFC 8709, 5656, 8332) and as ssh-keygen does.
_KINDS: Final = {
    "ssh-ed25519": "ed25519",
    "ssh-rsa": "rsa",
    "ecdsa-sha2-nistp256": "ecdsa",
    "ecdsa-sha2-nistp384": "ecdsa",
    "ecdsa-sha2-nistp521": "ecdsa",
}
# services.tailscale has tailscaled keep its state there.
_STATE_FILE: Final = f"{STATE_DIR}/tailscaled.state"


def staying(seen: Configuration, host: Host, plan: Plan, name: str) -> Iterator[Refusal]:
    """Yield what would be carried into the new system and lost at its first start."""
    yield from _state(seen, host, plan, name)
    yield from _host_key(seen, host, plan, name)
    if host.keep.machine_id and not place_of(seen, MACHINE_ID).lasts:
        yield Refusal(
            "loses-state",
            f"{MACHINE_ID} does not outlast a reboot of {name}, and the inventory keeps it (keep.machine_id).",
            f"Persist {MACHINE_ID} there, or set keep.machine_id = false in the inventory.",
        )
    for file in host.files:
        place = place_of(seen, file.path)
        if not place.lasts or place.path != posixpath.normpath(file.path):
            where = place.path if place.lasts else "a path on a file system that lasts"
            yield Refusal(
                "loses-state",
                f"{file.path} of the inventory's files would be gone after the first start of {name}.",
                f"Name {where} there.",
            )


def staying_warnings(seen: Configuration, host: Host) -> tuple[str, ...]:
    """Return what is lost without harm to the first start, or may be lost."""
    said = []
    if host.extra_files is not None and not place_of(seen, "/").lasts:
        said.append("the root does not outlast a reboot: of extra_files, only what lies on other file systems stays")
    if not place_of(seen, HOLDFAST_DIR).lasts:
        said.append(
            f"Holdfast's mark does not outlast a reboot of the new system: a later run knows only by its host name that"
            f" it is in use, and may wipe it under another name. Persist {HOLDFAST_DIR} there"
        )
    said += _secrets_closed(seen, host)
    if seen.tailscale and switch(seen.tailscale_daemon_flags, "encrypt-state"):
        # Tailscale's cmd/tailscaled/tailscaled.go, handleTPMFlags, read at 1.103.
        said.append("tailscaled of the new system does not start without a TPM (--encrypt-state in extraDaemonFlags)")
    return tuple(said)


def _secrets_closed(seen: Configuration, host: Host) -> list[str]:
    """Return what opens the secrets of sops-nix and agenix and will not be there. Host keys are carried over."""
    if host.extra_files is not None:
        return []
    brought = {place_of(seen, file.path).path for file in host.files}
    brought |= {place_of(seen, key.path).path for key in seen.host_keys}
    return [
        f"nothing brings {keys[0]}, which is to open its secrets (sops-nix, agenix): name it in the inventory's files"
        for keys in seen.secret_keys
        if not any(key.startswith("/nix/store/") or place_of(seen, key).path in brought for key in keys)
    ]


def _state(seen: Configuration, host: Host, plan: Plan, name: str) -> Iterator[Refusal]:
    if not plan.carries_state or not seen.tailscale:
        return
    file = flag(seen.tailscale_daemon_flags, "state")
    if file is not None and posixpath.normpath(file) != _STATE_FILE:
        yield Refusal(
            "loses-state",
            f"tailscaled of {name} keeps its state elsewhere (--state={file:.200}): {host.name} would be a new node.",
            "Remove --state from services.tailscale.extraDaemonFlags there.",
        )
    elif not place_of(seen, STATE_DIR).lasts:
        yield Refusal(
            "loses-state",
            f"{STATE_DIR} does not outlast a reboot of {name}: {host.name} would no longer be the node that it is.",
            f'Persist "{STATE_DIR}" there by impermanence, preservation or a bind mount of a file'
            " system that lasts; or set holdfast.host.persistentRoot (Holdfast's module).",
        )


def _host_key(seen: Configuration, host: Host, plan: Plan, name: str) -> Iterator[Refusal]:
    """Yield why the new system would not answer with the host key that the operator knows."""
    protocol = plan.origin.host_key.partition(" ")[0]
    kind = _KINDS.get(protocol)
    if kind is None:
        return
    if serves_tailscale_ssh(seen, host, plan):
        # tailscaled takes these, else makes keys of its own (tailscale's ipn/ipnlocal/ssh.go).
        files = [f"/etc/ssh/ssh_host_{kind}_key"]
    elif not seen.sshd or not seen.host_keys:
        return
    else:
        files = [key.path for key in seen.host_keys if key.type == kind]
    known = f"the operator knows {host.name} by its {kind} key"
    if not files:
        yield Refusal(
            "other-host-key",
            f"sshd of {name} has no host key of the type {kind}, and {known}.",
            f'Add {{ type = "{kind}"; path = "/etc/ssh/ssh_host_{kind}_key"; }} to services.openssh.hostKeys, or a'
            " key of another type to the operator's known_hosts.",
        )
        return
    replaced = {*map(posixpath.normpath, seen.secret_paths), *(posixpath.normpath(file.path) for file in host.files)}
    lost = [file for file in files if not place_of(seen, file).lasts]
    if lost == files:
        yield Refusal(
            "other-host-key",
            f"{files[0]} does not outlast a reboot of {name}, and {known}: another key would answer.",
            "Put it on a file system that lasts, in services.openssh.hostKeys there, such as"
            f" /persist/etc/ssh/ssh_host_{kind}_key: Holdfast copies it there.",
        )
    elif replaced.issuperset(map(posixpath.normpath, files)):
        yield Refusal(
            "other-host-key",
            f"{files[0]} of {name} comes from a secret of yours, and {known}: another key would answer.",
            "Leave the host key to Holdfast, which carries it over. If it is the same key, allow it.",
        )
