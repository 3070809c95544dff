"""The tailscaled of a target: whether it runs, where it keeps its state, and what it reports."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, first_word, split_lines
from holdfast.facts.identity import Identity, Status, parse_status

StateKind = Literal["plain", "sealed", "empty", "missing", "unreadable", "none"]
Lock = Literal["off", "signed", "unsigned"]


class Tailscale(Frozen):
    """The target's tailscaled.

    Attributes:
        installed: whether the `tailscale` command exists.
        running: whether a tailscaled of the system itself runs.
        container: what kind of container the only tailscaled runs in; empty if it is the system's own, or none runs.
        version: tailscaled's version, or the command's; empty if unknown.
        backend_state: `Running`, `NeedsLogin`, `Stopped`, …; empty if tailscaled does not answer.
        state_store: `file`, `memory`, `kubernetes`, `aws`, or the prefix of an unknown store.
        state_file: path of the state file; empty if the state is not in a file.
        state_kind: what that file contains; `sealed` if only this machine's TPM can open it.
        identity: who the node is; None if it is not logged in, not up, or its key has expired.
        key_expiry: when the node key expires; None if never.
        expired: whether it has expired.
        host_name: the host name that it reports to the control server.
        attested: whether it proves with a key in the TPM which machine it is.
        lock: whether tailnet lock is on and has signed the node's key; `off` also if unknown.
        pinned_host_name: the host name of its preferences (`tailscale set --hostname`), which wins over the system's;
            empty if there is none.
        ssh: whether its preferences switch on Tailscale's own SSH server; in the installer, those of the origin.
        ssh_host_keys: the public host keys of that server, `TYPE BASE64`; empty if it is off.

    """

    installed: bool = False
    running: bool = False
    container: str = ""
    version: str = ""
    backend_state: str = ""
    state_store: str = "file"
    state_file: str = ""
    state_kind: StateKind = "missing"
    identity: Identity | None = None
    key_expiry: datetime | None = None
    expired: bool = False
    host_name: str = ""
    attested: bool = False
    lock: Lock = "off"
    pinned_host_name: str = ""
    ssh: bool = False
    ssh_host_keys: tuple[str, ...] = ()


def parse_tailscale(said: Mapping[str, str]) -> Tailscale:
    """Parse what facts.sh says about Tailscale."""
    flags = dict(line.partition("=")[::2] for line in split_lines(said["tailscaled_flags"]))
    kind = said["tailscale_state_kind"].strip()
    store = _store(flags.get("state", ""))
    status = _status(said["tailscale_status"])
    preferences = _members(said["tailscale_prefs"])
    up = status is not None and status.backend_state == "Running" and not status.expired
    return Tailscale(
        installed=bool(said["tailscale_installed"].strip()),
        running=bool(said["tailscaled_pid"].strip()),
        container=first_word(said["tailscaled_container"]),
        version=(status.version if status else "") or first_word(said["tailscale_version"]),
        backend_state=status.backend_state if status else "",
        state_store=store,
        state_file=clean(said["tailscale_state_file"]) if store == "file" else "",
        state_kind=kind if kind in ("plain", "sealed", "empty", "missing", "unreadable") else "none",
        identity=status.identity if status and up else None,
        key_expiry=status.key_expiry if status else None,
        expired=status.expired if status else False,
        host_name=status.host_name if status else "",
        attested=bool(said["tailscale_attested"].strip()),
        lock=_lock(said["tailscale_lock"]),
        pinned_host_name=clean(preferences.get("Hostname", "").strip('"')),
        ssh_host_keys=status.ssh_host_keys if status else (),
        ssh=preferences.get("RunSSH") == "true",
    )


def _store(state: str) -> str:
    """Return the kind of store that tailscaled's --state selects (tailscale's ipn/store)."""
    prefix, colon, _ = state.partition(":")
    if not colon or prefix == "tpmseal" or state.startswith("/"):
        return "file"
    return {"mem": "memory", "kube": "kubernetes", "arn": "aws"}.get(prefix, first_word(prefix))


def _lock(text: str) -> Lock:
    """Read the lines of `tailscale lock status --json` that facts.sh selects."""
    said = _members(text)
    if said.get("Enabled") != "true":
        return "off"
    return "signed" if said.get("NodeKeySigned") == "true" else "unsigned"


def _members(text: str) -> dict[str, str]:
    """Return members of a JSON object, one a line; the first of two equal names counts."""
    said: dict[str, str] = {}
    for line in split_lines(text)[:MAX_ITEMS]:
        name, _, value = line.partition(":")
        said.setdefault(name.strip().strip('"'), value.strip())
    return said


def _status(text: str) -> Status | None:
    try:
        return parse_status(text)
    except ValueError:
        return None
