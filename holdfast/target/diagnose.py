"""Finds out why a host does not come back: asks the operator's tailscaled and the host's other addresses."""

import contextlib
import ipaddress
import re
import shlex
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from holdfast.base import beside, clock
from holdfast.base.deadline import Deadline
from holdfast.base.errors import ConnectionLost, HoldfastError, LoginRefused, NotTrusted, Unreachable
from holdfast.base.log import Log
from holdfast.base.places import INSTALLER_MARK
from holdfast.base.settings import settings
from holdfast.base.text import printable
from holdfast.base.waiting import NotYet
from holdfast.facts.facts import Facts
from holdfast.facts.identity import Identity, is_of_tailnet
from holdfast.facts.marks import InstallerMark
from holdfast.inventory.host import Host, parse_local
from holdfast.ssh import connection
from holdfast.ssh.connection import Connection
from holdfast.ssh.resolve import endpoint_beside
from holdfast.ssh.sshconfig import asked_once
from holdfast.tailnet.operator import View, view_of

T = TypeVar("T")

# A healthy machine is back before the first look, or soon after.
FIRST_S: Final = 30
EVERY_S: Final = 60
# To connect: to the inventory's `local`, and to an address that was only seen on the host.
LOCAL_S: Final = 10
SEEN_S: Final = 5
MOST_ADDRESSES: Final = 4
# For all commands at an address that answers, and for one of them.
COLLECT_S: Final = 25
COMMAND_S: Final = 8
MAX_BYTES: Final = 4096
MAX_LINES: Final = 40
LONGEST_SHOWN: Final = 300

_STATUS: Final = ("systemctl", "status", "tailscaled", "--no-pager", "--full", "-n", "5")
_MARK: Final = ("cat", INSTALLER_MARK)
# As in facts.sh: the first of the two that exists counts.
_SYSTEM: Final = ("readlink", "/run/booted-system", "/run/current-system")
# Without the other nodes of the tailnet: they do not belong in a log.
_TAILNET: Final = ("tailscale", "status", "--peers=false")
_JOURNAL: Final = ("journalctl", "-b", "-u", "tailscaled", "-n", "20", "--no-pager")
_ASKED: Final = (_STATUS, _JOURNAL, _MARK, _TAILNET, _SYSTEM)

# RFC 1918 and RFC 4193.
_PRIVATE: Final = tuple(
    ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
# Bridges to containers and virtual machines: the operator may have the same address on one of its own.
_INNER: Final = re.compile(r"(docker|br-|veth|virbr|cni|lxcbr|podman)")
# An auth key; a link that lets whoever opens it take the machine into a tailnet of theirs; a private key.
_SECRET: Final = re.compile(
    r"(tskey-|privkey:|https?://\S+?/(?:a|register)/|auth-?key[\"']?[=:\s]+[\"']?)[^\s\"']+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one of the host's other addresses answered.

    Attributes:
        where: the address, with its port if that is not 22.
        says: what was found; it follows `At ADDRESS:` in the log.
        trusted: whether the expected host key answered.
        system: store path of the system that runs there; empty if unknown, or not NixOS.
        block: what was read there, line by line, for the log.

    """

    where: str
    says: str
    trusted: bool = False
    system: str = ""
    block: tuple[str, ...] = ()


class Diagnosis:
    """Finds out what it can about a host that a phase waits for. Changes nothing there.

    Args:
        host: the host.
        identity: the node that is waited for; None if none is.
        addresses: the addresses of its network interfaces at preflight, as in the facts.
        log: where it reports to.

    """

    def __init__(
        self,
        host: Host,
        identity: Identity | None,
        *,
        addresses: Iterable[str] = (),
        log: Log,
    ) -> None:
        self._host = host
        self._identity = identity
        self._log = log
        self._next_at = clock.monotonic() + FIRST_S
        self._seen = list(addresses)
        self._view: View | None = None
        self._blocks: dict[str, tuple[str, ...]] = {}
        self._said: object = None
        self._looked = threading.Event()
        self._looked.set()
        self._log_now = True
        self._failed: Exception | None = None
        self.answers: tuple[Answer, ...] = ()

    def saw(self, facts: Facts) -> None:
        """Remember the addresses that the host has now. They are tried before older ones."""
        self._seen = [*facts.network.addresses, *self._seen]

    def watch(self, probe: Callable[[], T]) -> Callable[[], T]:
        """Return the probe, with a look when it fails: first after FIRST_S seconds, then every EVERY_S seconds.

        The look goes on beside the next probes: it may take long, and the host may return meanwhile.
        """

        def watched() -> T:
            try:
                found = probe()
            except (NotYet, Unreachable):
                if clock.monotonic() >= self._next_at and self._looked.is_set():
                    self._looked = beside.start(self._look_beside, f"diagnosis-{self._host.name}")
                    self._next_at = clock.monotonic() + EVERY_S
                if self._failed is not None:
                    raise self._failed from None
                raise
            self._log_now = False
            return found

        return watched

    def _look_beside(self) -> None:
        try:
            self._look()
        except Exception as error:  # noqa: BLE001  whoever waits raises it
            self._failed = error

    def look(self) -> None:
        """Ask the operator's tailscaled and the other addresses, and log what is new."""
        self._looked.wait()
        self._look()

    @asked_once()
    def _look(self) -> None:
        self._view = view_of(self._identity) if self._identity else None
        if self._host.local:
            self.answers = (_ask(self._host, *parse_local(self._host.local), timeout_s=LOCAL_S),)
        else:
            found = worth_trying(self._seen, self._host.target)
            self.answers = tuple(_ask(self._host, address, 22, timeout_s=SEEN_S) for address in found)
        # Not the summaries: the ages in them change with each look, and that is not news.
        now = (self._view, [(answer.where, answer.says) for answer in self.answers])
        if not self._log_now:
            return
        if now != self._said:
            self._said = now
            self._log.say(self.summary())
        for answer in self.answers:
            if answer.block and answer.block != self._blocks.get(answer.where):
                self._blocks[answer.where] = answer.block
                for line in answer.block:
                    self._log.line(line)

    def summary(self) -> str:
        """Return what the last look saw, in one line."""
        parts = [f"Over the tailnet, as the operator sees it: {self._view.describe()}."] if self._view else []
        parts += [f"At {answer.where}: {answer.says}." for answer in self.answers]
        if not self.answers:
            parts.append("No other address of it is known (`local` in the inventory names one).")
        return " ".join(parts)

    def answers_at(self, system: str = "") -> str:
        """Return the first address where the right host key answers, at the last look; empty if none does.

        Args:
            system: store path of the system that has to run there; empty for any.

        """
        found = (answer for answer in self.answers if answer.trusted and (not system or answer.system == system))
        return next((answer.where for answer in found), "")

    def hint(self) -> str:
        """Return what the user can do now, as the last look suggests; empty if it suggests nothing."""
        if where := self.answers_at():
            return f"Log in at {where}; what its tailscaled says is in the run's log."
        if self._view and self._view.peer is None:
            return "Check with `tailscale status` that this operator is on the tailnet and sees the machine."
        return ""


def worth_trying(seen: Iterable[str], target: str) -> tuple[str, ...]:
    """Return which of a host's own addresses to ask: private ones, never Tailscale's, at most MOST_ADDRESSES.

    Args:
        seen: `INTERFACE ADDRESS/PREFIX`, as in the facts.
        target: the address that the phase tries anyway.

    """
    found: dict[str, None] = {}
    for line in seen:
        interface, _, rest = line.partition(" ")
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(rest.partition("/")[0])
            private = any(address in network for network in _PRIVATE) and not is_of_tailnet(address)
            if private and not _INNER.match(interface) and str(address) != target:
                found[str(address)] = None
    return tuple(found)[:MOST_ADDRESSES]


def _ask(host: Host, address: str, port: int, *, timeout_s: float) -> Answer:
    """Ask one address. The host key is verified before anything is sent."""
    shown = f"[{address}]" if ":" in address else address
    where = address if port == 22 else f"{shown}:{port}"
    try:
        with connection.open_connection(
            endpoint_beside(host, settings(), address, port), timeout_s=timeout_s
        ) as target:
            return _read(target, where)
    except NotTrusted as error:
        return Answer(where, "another host key answers, so no command was sent", block=(error.message,))
    except LoginRefused:
        return Answer(where, "the right host key answers, but root may not log in", trusted=True)
    except HoldfastError as error:
        # The reason is at the end: `no connection to ADDRESS within 5 s: Connection refused.`
        return Answer(where, error.message.removesuffix(".").rpartition(": ")[2])


def _read(target: Connection, where: str) -> Answer:
    """Read what shows why a host is not on its tailnet."""
    deadline = Deadline.after(COLLECT_S)
    said: dict[tuple[str, ...], str] = {}
    block: list[str] = []
    for argv in _ASKED:
        timeout_s = min(COMMAND_S, deadline.left_s())
        block.append(f"{where}: {shlex.join(argv)}")
        if not timeout_s:
            block.append("  (not asked: no time was left)")
            continue
        try:
            done = target.run(argv, timeout_s=timeout_s, check=False, max_output_bytes=MAX_BYTES)
        except ConnectionLost as error:
            block.append(f"  ({error.message})")
            break
        except HoldfastError as error:
            block.append(f"  ({error.message})")
            continue
        said[argv] = done.stdout
        block += [f"  {_shown(line)}" for line in (done.stdout + done.stderr).splitlines()[-MAX_LINES:]]
    system = printable(said.get(_SYSTEM, "").partition("\n")[0])[:LONGEST_SHOWN]
    system = system if system.startswith("/nix/store/") else ""
    says = f"the right host key answers, {_what_runs(said.get(_MARK, ''), system)}"
    if active := re.search(r"^ *Active: (\S+(?: \([^)\n]*\))?)", said.get(_STATUS, ""), re.MULTILINE):
        says += f", tailscaled is {printable(active[1])[:80]}"
    return Answer(where, says, trusted=True, system=system, block=tuple(block))


def _what_runs(mark: str, system: str) -> str:
    with contextlib.suppress(ValueError):
        return f"the installer runs there (Tailscale state: {InstallerMark.model_validate_json(mark).state})"
    return f"{system} runs there" if system else "the installer does not run there"


def _shown(line: str) -> str:
    """Return a line from the target for the log: short, printable, and without secrets."""
    return _SECRET.sub(r"\1…", printable(line))[:LONGEST_SHOWN]
