"""A state archive of the vault back onto a machine, and only while no other machine is that node."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from holdfast.base import clock
from holdfast.base.errors import ConfigError, NeverCame, TargetRefused
from holdfast.base.places import STATE_DIR, TAILSCALED_STATE
from holdfast.base.settings import Settings, script
from holdfast.base.text import LONGEST_LINE, printable
from holdfast.base.waiting import NotYet, wait_for
from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity, Peer, Status, parse_status, same_node
from holdfast.inventory.host import Host
from holdfast.ssh.connection import Connection
from holdfast.tailnet.archive import check_archive
from holdfast.tailnet.operator import operators_status
from holdfast.tailnet.vault import Vault, VaultEntry
from holdfast.target import lock
from holdfast.target.look import look

# WireGuard's handshakes are two minutes apart while packets flow.
QUIET: Final = timedelta(minutes=3)
ASK_S: Final = 20
PUT_S: Final = 180
BECOMES_S: Final = 120

_ONE_ONLY: Final = (
    "Only one machine may be this node. Shut the other one down (or stop tailscaled there), wait some minutes until"
    " `tailscale status` here calls it offline, and try again."
)
_UNSURE: Final = (
    "Whether another machine is this node now is not known, so nothing is restored. Bring this operator onto the node's"
    " tailnet, with a policy that lets it see the node, and try again."
)


@dataclass(frozen=True, slots=True)
class PutBack:
    """What became of a restore.

    Attributes:
        identity: the node that the machine is now.
        kept: where the machine keeps the state that it had before; empty if it had none.
        already: whether it was that node before, and nothing was changed.

    """

    identity: Identity
    kept: str = ""
    already: bool = False


def choose(vault: Vault, host: str, name: str = "") -> VaultEntry:
    """Return the archive to restore.

    Args:
        vault: the vault.
        host: the host's name.
        name: the archive's file name, as `just vault list` shows it; empty for the newest whose label can be read.

    Raises:
        ConfigError: the vault has no such archive of this host, or nobody wrote down whose it is.

    """
    kept = vault.kept(host)
    hint = f"`just vault list {host}` shows which there are."
    if not kept:
        raise ConfigError(f"the vault has no archive of {host}.", hint="`just vault list` shows which there are.")
    # A name is looked up and never made into a path.
    named = [entry for entry in kept if entry.path.name == name] if name else kept
    if not named:
        raise ConfigError(f"the vault has no archive {name[:200]!r} of {host}.", hint=hint)
    known = [VaultEntry(entry.path, entry.label) for entry in named if entry.label is not None]
    if not known:
        what = f"the archive {name} of {host} has" if name else f"no archive of {host} has"
        raise ConfigError(f"{what} {'no' if name else 'a'} label that says which node it is.", hint=hint)
    return known[-1]


def restore(
    target: Connection, host: Host, entry: VaultEntry, settings: Settings, *, on_line: Callable[[str], None]
) -> PutBack:
    """Make the machine behind a connection the node of an archive.

    Args:
        target: a connection to the machine.
        host: the host.
        entry: the archive, from `choose`.
        settings: how the vault is opened.
        on_line: called with what a person should know, and with what the target says.

    Raises:
        ConfigError: the archive cannot be read or opened here.
        NotTrusted: it is unsafe, or not the node that its label says.
        TargetRefused: the node is, or may be, online; or the machine is another node, or cannot take the state.
        CommandFailed: the state could not be put in its place; the machine has what it had before.
        NeverCame: it did not become this node in time.

    """
    identity = entry.label.identity
    archive = Vault(settings).read(entry.path)
    checked = check_archive(archive, identity)
    facts = look(target)
    if is_node(facts, target, host, identity):
        return PutBack(identity, already=True)
    check_takes_state(facts, host)
    lock.check(target, "", lambda _run: None, mark=facts.installer_mark)
    if entry.label.host_key != target.host_key:
        on_line("the archive came from a machine with another SSH host key")
    if checked.attested:
        on_line("the node proved by its machine's TPM which machine it was; on another machine it cannot")
    now = clock.utc()
    # As late as can be: what is seen now may be over in a moment.
    if check_offline(operators_status(), identity, now).expired:
        on_line("the node's key has expired: it needs `tailscale up --force-reauth` to be of use")
    done = target.run(
        ["sh", "-c", script("any/restore-state.sh"), "restore-state.sh", f"{now:%Y%m%dT%H%M%SZ}"],
        stdin=archive,
        timeout_s=PUT_S,
    )
    kept = printable(done.stdout.strip()[:LONGEST_LINE])
    _wait_for_node(target, host, identity, kept, on_line)
    return PutBack(identity, kept)


def check_offline(status: Status | None, identity: Identity, now: datetime) -> Peer:
    """See that no machine is a node, as far as the operator's tailscaled knows.

    Args:
        status: what the operator's tailscaled says, with its peers; None if it does not answer.
        identity: the node, as the archive has it.
        now: the time on the operator.

    Returns:
        The node as it is seen, offline.

    Raises:
        TargetRefused: it is online, or was a moment ago; it has another key by now; or nobody knows.

    """
    node = identity.describe()
    if status is None:
        raise TargetRefused(f"the operator's tailscaled does not answer: is {node} online?", hint=_UNSURE)
    if status.backend_state != "Running":
        why = status.backend_state or "no state"
        raise TargetRefused(f"the operator's tailscaled is not up ({why}): is {node} online?", hint=_UNSURE)
    if status.identity is not None and _is(status.identity, identity):
        raise TargetRefused(f"this operator is {node} itself.", hint=_ONE_ONLY)
    # After a login of its own the node has another key and the same ID.
    found = [peer for peer in status.peers if _is(peer.identity, identity)]
    if not found:
        raise TargetRefused(
            f"the operator's tailscaled knows no node {node}: it was removed from the tailnet, or may not be seen from"
            " here.",
            hint=f"{_UNSURE} If it was removed, its state is worth nothing: log in anew (`tailscale up`).",
        )
    for peer in found:
        if peer.online:
            raise TargetRefused(f"the node {node} is online.", hint=_ONE_ONLY)
        for what, moment in (("had a handshake", peer.last_handshake), ("was seen", peer.last_seen)):
            if moment is not None and now - moment < QUIET:
                ago = max(0, round((now - moment).total_seconds()))
                raise TargetRefused(f"the node {node} {what} {ago} s ago.", hint=_ONE_ONLY)
    for peer in found:
        if peer.identity.node_key == identity.node_key:
            return peer
    raise TargetRefused(
        f"the node {node} has another key since: {found[0].identity.describe()}; this archive is out of date.",
        hint="Name a newer archive, or log in anew on the machine (`tailscale up`).",
    )


def _is(seen: Identity, wanted: Identity) -> bool:
    return seen.node_key == wanted.node_key or (bool(wanted.node_id) and seen.node_id == wanted.node_id)


def is_node(facts: Facts, target: Connection, host: Host, identity: Identity) -> bool:
    """Say whether a machine is a node already, and up.

    Raises:
        TargetRefused: it is another one, or it is this one and not up, or which one it is cannot be seen.

    """
    if not facts.tailscale.installed:
        raise TargetRefused(f"there is no Tailscale on {host.name}.", hint="Install it there, without a login.")
    if not facts.tailscale.running:
        if facts.tailscale.state_kind in ("missing", "empty"):
            return False
        raise TargetRefused(
            f"tailscaled does not run on {host.name}, and it has a state: which node it is cannot be seen.",
            hint=f"Start it there; if it does not start, move {STATE_DIR} away, and try again.",
        )
    status = _ask(target)
    if status is None:
        raise TargetRefused(f"tailscaled on {host.name} does not answer.", hint="Restart it there, and try again.")
    says = status.backend_state or "nothing"
    if status.identity is not None and same_node(status.identity, identity):
        if status.backend_state == "Running":
            return True
        if status.backend_state == "NeedsLogin":
            hint = "Its key has expired, or the tailnet does not want it any more: run `tailscale up` there."
        else:
            hint = "Run `tailscale up` there."
        raise TargetRefused(f"{host.name} is {identity.describe()} already, and says {says}.", hint=hint)
    out = status.backend_state in ("NeedsLogin", "NoState")
    down = status.backend_state == "Stopped" and status.identity is None and not status.has_key
    if out or down:
        return False
    who = status.identity.describe() if status.identity else "a node that is not up"
    raise TargetRefused(
        f"{host.name} is another node: {who}, and says {says}.",
        hint="If it may give that up, run `tailscale logout` there, and try again.",
    )


def check_takes_state(facts: Facts, host: Host) -> None:
    """See that what is put in /var/lib/tailscale is what tailscaled reads there.

    Raises:
        TargetRefused: it keeps its state elsewhere, or nothing here can stop and start it.

    """
    tailscale = facts.tailscale
    if tailscale.state_store != "file" or tailscale.state_file != TAILSCALED_STATE:
        where = tailscale.state_file or f"in a store of the kind {tailscale.state_store}"
        raise TargetRefused(
            f"tailscaled on {host.name} keeps its state elsewhere: {where}.",
            hint=f"Start it with --state={TAILSCALED_STATE}, and try again.",
        )
    if facts.init != "systemd":
        raise TargetRefused(
            f"{host.name} runs {facts.init or 'an unknown init'}, and only systemd can be told to stop tailscaled.",
            hint="Do it by hand: docs/howto/restore-from-the-vault.md says how.",
        )


def _ask(target: Connection) -> Status | None:
    """Return what tailscaled on the target says about itself."""
    said = target.run(["tailscale", "status", "--json", "--peers=false"], timeout_s=ASK_S, check=False).stdout
    try:
        return parse_status(said)
    except ValueError:
        return None


def _wait_for_node(
    target: Connection, host: Host, identity: Identity, kept: str, on_line: Callable[[str], None]
) -> None:
    def probe() -> None:
        status = _ask(target)
        if status is None:
            raise NotYet("tailscaled does not answer")
        if status.backend_state != "Running" or status.identity is None:
            raise NotYet(f"tailscaled says {status.backend_state or 'nothing'}")
        if not same_node(status.identity, identity):
            raise NotYet(f"it is {status.identity.describe()}")

    try:
        wait_for(f"{host.name} to be {identity.describe()}", probe, deadline_s=BECOMES_S, on_change=on_line)
    except NeverCame as error:
        back = f" What it had before is in {kept} there." if kept else ""
        raise NeverCame(
            error.message,
            hint=f"Look at `tailscale status` there; NeedsLogin means that the node's key is not valid any more.{back}",
        ) from error
