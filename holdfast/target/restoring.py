"""Restores a state archive from the vault to a machine, but only while no other machine is that node."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from holdfast.base import clock
from holdfast.base.errors import CommandFailed, ConfigError, NeverCame, TargetRefused, UnexpectedState
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
from holdfast.target.machine import Machine

# While packets flow, WireGuard's handshakes are two minutes apart.
QUIET: Final = timedelta(minutes=3)
ASK_S: Final = 20
PUT_S: Final = 180
BECOMES_S: Final = 120

_ONE_ONLY: Final = (
    "Only one machine may be this node. Shut the other one down (or stop tailscaled there), wait some minutes until"
    " `tailscale status` here calls it offline, and try again."
)
_UNSURE: Final = (
    "It is unknown whether another machine is this node now, so nothing is restored. Bring this operator onto the"
    " node's tailnet, with a policy that lets it see the node, and try again."
)


# The exit status of restore-state.sh if the machine has changed since `show`.
CHANGED: Final = 3
_SEEN: Final = re.compile(r"([0-9a-f]{64}|none) ([0-9a-f]{64}|none)")


@dataclass(frozen=True, slots=True)
class PutBack:
    """The outcome of a restore.

    Attributes:
        identity: the node that the machine is now.
        kept: where the machine keeps its earlier state; empty if it had none.
        already: whether the machine was that node before; then nothing was changed.

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
        ConfigError: the vault has no such archive of this host, or no valid label says which node it is.

    """
    kept = vault.kept(host)
    hint = f"`just vault list {host}` shows which there are."
    if not kept:
        raise ConfigError(f"the vault has no archive of {host}.", hint="`just vault list` shows which there are.")
    # The name is only compared: it never becomes a path.
    named = [entry for entry in kept if entry.path.name == name] if name else kept
    if not named:
        raise ConfigError(f"the vault has no archive {name[:200]!r} of {host}.", hint=hint)
    known = [VaultEntry(entry.path, entry.label) for entry in named if entry.label is not None]
    if not known:
        what = f"the archive {name} of {host} has" if name else f"no archive of {host} has"
        raise ConfigError(f"{what} {'no' if name else 'a'} label that says which node it is.", hint=hint)
    return known[-1]


def restore(machine: Machine, target: Connection, entry: VaultEntry, settings: Settings) -> PutBack:
    """Make a machine the node of an archive.

    Args:
        machine: the machine; whichever boot answers.
        target: a connection to it.
        entry: the archive, from `choose`.
        settings: how the vault is opened.

    Raises:
        ConfigError: the archive cannot be read or decrypted here.
        NotTrusted: the archive is unsafe, or not of the node that its label names.
        TargetRefused: the node is, or may be, online; the machine is another node, or cannot take the state; or it
            changed while it was looked at.
        CommandFailed: the state could not be put in place; the machine still has its earlier state.
        NeverCame: the machine did not become this node in time.

    """
    host, log = machine.host, machine.log
    identity = entry.label.identity
    archive = Vault(settings).read(entry.path)
    checked = check_archive(archive, identity)
    # First: whatever changes after this moment is found when the state is put there.
    seen = _seen(target)
    facts = look(target)
    if is_node(facts, target, host, identity):
        return PutBack(identity, already=True)
    check_takes_state(facts, host)
    lock.check(target, "", lambda _run: None, mark=facts.installer_mark)
    if entry.label.host_key != target.host_key:
        log.say("the archive came from a machine with another SSH host key")
    if checked.attested:
        log.say("the node proved by its machine's TPM which machine it was; on another machine it cannot")
    now = clock.utc()
    # As late as possible: the node may come online at any moment.
    if check_offline(operators_status(), identity, now).expired:
        log.say("the node's key has expired: run `tailscale up --force-reauth` after the restore")
    try:
        done = target.run(
            ["sh", "-c", script("any/restore-state.sh"), "restore-state.sh", f"{now:%Y%m%dT%H%M%SZ}", *seen],
            stdin=archive,
            timeout_s=PUT_S,
        )
    except CommandFailed as error:
        if error.result.exit_status != CHANGED:
            raise
        raise TargetRefused(
            f"{host.name} has changed while it was looked at: somebody logged in to Tailscale there, or a run began.",
            hint="Nothing was restored. Look at the machine, and try again.",
        ) from None
    kept = printable(done.stdout.strip()[:LONGEST_LINE])
    _wait_for_node(machine, target, identity, kept)
    return PutBack(identity, kept)


def check_offline(status: Status | None, identity: Identity, now: datetime) -> Peer:
    """Check that no machine is this node, as far as the operator's tailscaled knows.

    Args:
        status: what the operator's tailscaled says, with its peers; None if it does not answer.
        identity: the node in the archive.
        now: the time on the operator.

    Returns:
        The node as the operator sees it, offline.

    Raises:
        TargetRefused: the node is online, or was a moment ago; it has another node key by now; or that is unknown.

    """
    node = identity.describe()
    if status is None:
        raise TargetRefused(f"the operator's tailscaled does not answer: is {node} online?", hint=_UNSURE)
    if status.backend_state != "Running":
        why = status.backend_state or "no state"
        raise TargetRefused(f"the operator's tailscaled is not up ({why}): is {node} online?", hint=_UNSURE)
    if status.identity is not None and _is(status.identity, identity):
        raise TargetRefused(f"this operator is {node} itself.", hint=_ONE_ONLY)
    # After a new login the node has another key and the same ID.
    found = [peer for peer in status.peers if _is(peer.identity, identity)]
    if not found:
        raise TargetRefused(
            f"the operator's tailscaled does not know the node {node}: it was removed from the tailnet, or this"
            " operator may not see it.",
            hint=f"{_UNSURE} If it was removed, its state is useless: log in again (`tailscale up`).",
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
        f"the node {node} has another key now: {found[0].identity.describe()}; this archive is out of date.",
        hint="Name a newer archive, or log in again on the machine (`tailscale up`).",
    )


def _is(seen: Identity, wanted: Identity) -> bool:
    return seen.node_key == wanted.node_key or (bool(wanted.node_id) and seen.node_id == wanted.node_id)


def is_node(facts: Facts, target: Connection, host: Host, identity: Identity) -> bool:
    """Return whether a machine is this node already, and up. False means that it is no node, and can become this one.

    Raises:
        TargetRefused: the machine is another node; it is this one but not up; or which node it is cannot be seen.

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
            hint = "Its key has expired, or the tailnet no longer accepts it: run `tailscale up` there."
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
    """Check that tailscaled reads its state from /var/lib/tailscale, and that it can be stopped and started.

    Raises:
        TargetRefused: it keeps its state elsewhere, or the machine does not run systemd.

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
            hint="Do it by hand, as docs/howto/restore-from-the-vault.md describes.",
        )


def _seen(target: Connection) -> tuple[str, str]:
    """Return digests of the machine's Tailscale state and of its lock, for restore-state.sh to compare later."""
    said = target.run_script(script("any/restore-state.sh"), ["show"], timeout_s=ASK_S).stdout.strip()
    if not (match := _SEEN.fullmatch(said)):
        raise UnexpectedState(
            f"{target.endpoint.host} gave no valid digests of its Tailscale state and its lock.",
            hint="Does a login there print text? `ssh TARGET true` must print nothing.",
        )
    return match[1], match[2]


def _ask(target: Connection) -> Status | None:
    """Return what tailscaled on the target says about itself; None if it does not answer."""
    said = target.run(["tailscale", "status", "--json", "--peers=false"], timeout_s=ASK_S, check=False).stdout
    try:
        return parse_status(said)
    except ValueError:
        return None


def _wait_for_node(machine: Machine, target: Connection, identity: Identity, kept: str) -> None:
    def probe() -> None:
        status = _ask(target)
        if status is None:
            raise NotYet("tailscaled does not answer")
        if status.backend_state != "Running" or status.identity is None:
            raise NotYet(f"tailscaled says {status.backend_state or 'nothing'}")
        if not same_node(status.identity, identity):
            raise NotYet(f"it is {status.identity.describe()}")

    try:
        wait_for(
            f"{machine.host.name} to be {identity.describe()}",
            probe,
            deadline_s=BECOMES_S,
            on_change=machine.log.say,
        )
    except NeverCame as error:
        back = f" Its earlier state is in {kept} there." if kept else ""
        raise NeverCame(
            error.message,
            hint=f"Look at `tailscale status` there; NeedsLogin means that the node key is no longer valid.{back}",
        ) from error
