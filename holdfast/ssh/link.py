"""An authenticated SSH link: the handshake, the host key, and a watch that closes it when the target falls silent."""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import Final

import paramiko

from holdfast.base import clock, overlap
from holdfast.base.deadline import Deadline, or_raise
from holdfast.base.errors import ConnectionLost, DeadlinePassed, LoginRefused, Unreachable
from holdfast.base.text import printable
from holdfast.ssh import counting, hostkeys, wire
from holdfast.ssh.endpoint import Endpoint, Jump, ProxyCommand, Socks5
from holdfast.ssh.keys import offers
from holdfast.ssh.login import Attempts, LoggedIn, LoginTransport, TriesRanOut, log_in, refused_after

KEEPALIVE_S: Final = 15
# Three keepalives without an answer, and nothing else heard: OpenSSH's ServerAliveCountMax.
SILENCE_S: Final = 3 * KEEPALIVE_S
# For an idle link to answer before it is used again.
ANSWER_S: Final = 5
# How long after a command's deadline a call that hangs in the transport is cut off.
CUT_AFTER_S: Final = 3
# How many connections a login may take when the server allows fewer attempts than there are keys. Newer servers keep a
# client out for a while that fails more often (PerSourcePenalties).
MOST_CONNECTIONS: Final = 6
# AES-GCM first: for bulk uploads it is half as fast again as CTR with a separate MAC. No CBC, no 3DES.
CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
# By host name: `TYPE BASE64` of the key that let us in last. It is offered first: an agent then asks a person only once
# for each connection, and the other keys count against no limit.
_let_in: dict[str, str] = {}


class Link:
    """A connection that is logged in. `close` ends it; so does its own watch when the target falls silent.

    Attributes:
        endpoint: where it leads.
        host_key: the key that answered; of a certificate, the key in it.
        logged_in: how the server let us in.
        transport: paramiko's side of it.
        hop: the link to the jump host that carries it, or None.

    """

    def __init__(
        self,
        endpoint: Endpoint,
        stream: wire.Wire,
        transport: paramiko.Transport,
        host_key: hostkeys.HostKey,
        logged_in: LoggedIn,
        hop: "Link | None",
    ) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self.logged_in = logged_in
        self.host_key = host_key
        self.hop = hop
        self._wire = stream
        self._cut_at: float | None = None
        self._why_lost = ""
        self._closed = threading.Event()
        for work in (self._send_keepalives, self._watch):
            threading.Thread(target=work, daemon=True, name=f"ssh-{endpoint.host}").start()

    def _send_keepalives(self) -> None:
        """Ask for an answer every KEEPALIVE_S seconds, so that a living target is never silent for long."""
        while not self._closed.wait(KEEPALIVE_S) and self.transport.is_active():
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self.transport.global_request("keepalive@openssh.com", wait=True)

    def _watch(self) -> None:
        """Close the link when the target is silent, or when a call hangs after its deadline."""
        while not self._closed.wait(0.5):
            if self._wire.silent_s() > SILENCE_S:
                self._why_lost = f"nothing was heard for {SILENCE_S} s"
            elif self._cut_at is None or clock.monotonic() < self._cut_at:
                continue
            self.transport.close()
            self._wire.close()
            return

    @contextlib.contextmanager
    def bounded(self, deadline: Deadline) -> Iterator[None]:
        """Cut the link if this block hangs until CUT_AFTER_S seconds after the deadline."""
        before = self._cut_at
        self._cut_at = deadline.at + CUT_AFTER_S
        try:
            yield
        finally:
            self._cut_at = before

    def lost(self, during: str, why: str = "") -> ConnectionLost:
        """Return the error for a link that broke.

        Args:
            during: the command that it broke.
            why: the reason; if empty, the link's own.

        """
        error = self.transport.get_exception()
        why = why or self._why_lost or (printable(str(error))[:200] if error else "") or "the other side hung up"
        return ConnectionLost(
            f"The connection to {self.endpoint} broke during `{during}`: {why}.",
            hint="The command may still run there. Retry when the target answers.",
        )

    def answers(self) -> bool:
        """Return whether the other side answers, within ANSWER_S. A link that nobody uses may have broken unheard."""
        if self.transport.is_active():
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException), self.bounded(Deadline.after(ANSWER_S)):
                self.transport.global_request("keepalive@openssh.com", wait=True)
        return self.transport.is_active()

    def close(self) -> None:
        """End the connection and what carries it. Calling it again does nothing."""
        self._closed.set()
        self.transport.close()
        self._wire.close()


def open_link(endpoint: Endpoint, deadline: Deadline) -> Link:
    """Connect, verify the host key, log in. If the server allows too few attempts for all keys, connect again.

    Raises:
        Unreachable: nothing answers, what answers is not an SSH server, or the link breaks before we are logged in.
        DeadlinePassed: something answers, but handshake and login take too long.
        NotTrusted: see hostkeys.check.
        LoginRefused: see login.log_in.
        ConfigError: see hostkeys.trust_of.

    """
    trust = hostkeys.trust_of(endpoint)
    unusable: list[str] = []
    with offers(endpoint, unusable, deadline, first=_let_in.get(endpoint.host, "")) as keys:
        attempts = Attempts(deque(keys), unusable)
        for _ in range(MOST_CONNECTIONS):
            try:
                link = _open_once(endpoint, trust, attempts, deadline)
            except TriesRanOut:
                continue
            counting.add(connections=1)
            if link.logged_in.offers:
                _let_in[endpoint.host] = link.logged_in.offers[0].key
            return link
    raise refused_after(endpoint, attempts, MOST_CONNECTIONS)


def _open_once(endpoint: Endpoint, trust: hostkeys.Trust, attempts: Attempts, deadline: Deadline) -> Link:
    stream, hop = _open_speaking_wire(endpoint, deadline)
    try:
        with overlap.in_turn():
            transport = LoginTransport(stream)  # type: ignore[arg-type]  # a socket-like object is enough
            transport.daemon = True
            try:
                host_key, certificate = _shake_hands(endpoint, stream, transport, trust, deadline)
                hostkeys.check(endpoint, trust, host_key, certificate)
                logged_in = log_in(endpoint, stream, transport, attempts, deadline)
                stream.trust()
            except BaseException:
                transport.close()
                raise
    except BaseException:
        stream.close()
        raise
    return Link(endpoint, stream, transport, host_key, logged_in, hop)


def _open_speaking_wire(endpoint: Endpoint, deadline: Deadline) -> tuple[wire.Wire, Link | None]:
    """Open the wire. Where attempts overlap, also wait until the server speaks: only then this one logs in."""
    if not overlap.is_attempt():
        return _open_wire(endpoint, deadline)
    if isinstance(endpoint.proxy, Jump):
        with overlap.alone():  # a login of its own, for which a person may be asked
            return _open_wire(endpoint, deadline)
    within = deadline.within(overlap.patience_s(deadline.left_s()))
    stream, hop = _open_wire(endpoint, within)
    overlap.met()
    if not stream.speaks(within):
        said = stream.explain()
        stream.close()
        raise _no_handshake(endpoint, within, said)
    return stream, hop


def _open_wire(endpoint: Endpoint, deadline: Deadline) -> tuple[wire.Wire, Link | None]:
    """Return the open stream, and the link to the jump host if one carries it."""
    match endpoint.proxy:
        case None:
            family, source = endpoint.address_family, endpoint.bind_address
            stream = wire.open_tcp(
                endpoint.host, endpoint.address, endpoint.port, deadline, family=family, source=source
            )
            return wire.Wire(stream), None
        case ProxyCommand() as proxy:
            return wire.open_command(endpoint, proxy), None
        case Socks5() as proxy:
            return wire.Wire(wire.open_socks5(endpoint.host, proxy, endpoint.address, endpoint.port, deadline)), None
        case Jump(via=via):
            hop = open_link(via, deadline)
            return _tunnel(endpoint, hop, deadline), hop


def _tunnel(endpoint: Endpoint, hop: Link, deadline: Deadline) -> wire.Wire:
    try:
        with hop.bounded(deadline):
            channel = hop.transport.open_channel(
                "direct-tcpip",
                (endpoint.address, endpoint.port),
                ("127.0.0.1", 0),
                timeout=deadline.timeout_s(),
            )
    except (paramiko.SSHException, EOFError, OSError) as error:
        hop.close()
        raise Unreachable(
            f"{endpoint.host}: {hop.endpoint} does not connect to {endpoint.address}:{endpoint.port}: "
            f"{printable(str(error))[:200]}.",
            hint="Check that the target is up, and that the jump host permits TCP forwarding.",
        ) from error
    return wire.Wire(channel, close_carrier=hop.close)


def _shake_hands(
    endpoint: Endpoint,
    stream: wire.Wire,
    transport: LoginTransport,
    trust: hostkeys.Trust,
    deadline: Deadline,
) -> tuple[hostkeys.HostKey, bytes | None]:
    """Exchange keys, and return the host key that the server has proved to hold, and its certificate if it has one."""
    options = transport.get_security_options()
    options.ciphers = CIPHERS
    # Ask for a known type first, so that a server with several keys shows the one to compare.
    known = {"rsa-sha2-512" if kind == "ssh-rsa" else kind for kind in trust.kinds()}
    wanted = [kind for kind in options.key_types if endpoint.takes(kind)]
    options.key_types = tuple(sorted(wanted, key=lambda kind: kind not in known))
    transport.certificates_first = bool(trust.authorities)
    transport.banner_timeout = transport.handshake_timeout = deadline.timeout_s()
    try:
        transport.start_client(timeout=deadline.timeout_s())
    except (paramiko.SSHException, EOFError, OSError) as error:
        # A server that speaks only SSH 1 is incompatible, too.
        speaks_ssh2 = transport.remote_version.startswith(("SSH-2.0-", "SSH-1.99-"))
        if speaks_ssh2 and isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
            raise LoginRefused(
                f"{endpoint}: its SSH server and Holdfast have too little in common: {printable(str(error))[:200]}.",
                hint="Let its sshd_config also take one of Holdfast's: curve25519-sha256 in KexAlgorithms,"
                " aes256-gcm@openssh.com in Ciphers, ssh-ed25519 in HostKeyAlgorithms.",
            ) from error
        if not deadline.passed():
            said = stream.explain() or printable(str(error))[:200] or "it hung up"
            raise Unreachable(
                f"{endpoint}: no SSH server answered: {said}.",
                hint="Check what listens there, and the proxy or jump host on the way.",
            ) from error
    # `get_remote_server_key` would fail if the link broke just now; the login gives a better error for that.
    key = transport.host_key
    if key is None or not transport.initial_kex_done:
        # `start_client` returns without an error when its time is up.
        raise _no_handshake(endpoint, deadline, stream.explain())
    certificate = key.public_blob.key_blob if key.public_blob is not None else None
    return hostkeys.HostKey(key.get_name(), key.get_base64()), certificate


def _no_handshake(endpoint: Endpoint, deadline: Deadline, said: str) -> DeadlinePassed:
    return DeadlinePassed(
        f"{endpoint}: no SSH handshake within {deadline.allowed_s:.0f} s{': ' + said if said else ''}.",
        hint="Something accepts connections there without answering. Check that the target is up."
        + or_raise(deadline.allowed_s),
    )
