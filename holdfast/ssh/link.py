"""An authenticated SSH link: handshake, host key, login, and the watch over its life."""

import contextlib
import itertools
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cryptography.exceptions
import paramiko

from holdfast.base import clock
from holdfast.base.deadline import Deadline
from holdfast.base.errors import ConnectionLost, DeadlinePassed, LoginRefused, Unreachable
from holdfast.base.text import printable
from holdfast.ssh import hostkeys, wire
from holdfast.ssh.endpoint import Endpoint, Jump, ProxyCommand, Socks5

KEEPALIVE_S: Final = 15
# Three keepalives without an answer, and nothing else heard: OpenSSH's ServerAliveCountMax.
SILENCE_S: Final = 3 * KEEPALIVE_S
# How long after a command's deadline a call that hangs in the transport is cut off.
GRACE_S: Final = 3
# sshd closes the connection after six attempts (MaxAuthTries).
AGENT_KEYS: Final = 4
# What a server that ends the connection refuses the login by (RFC 4253, 11.1): host not allowed to connect, no more
# authentication methods, illegal user name.
REFUSALS: Final = frozenset({1, 14, 15})
# OpenSSH and Go have the same number for this as for any error of the protocol.
TOO_MANY: Final = "too many authentication"
# Tailscale's own SSH server says why it refuses in a banner that begins so, and hangs up without another word.
TAILSCALE_REFUSES: Final = b"tailscale: "
# AES-GCM first: half as fast again as CTR with a separate MAC for bulk uploads; no CBC, no 3DES.
CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)

# Its tracebacks say nothing that the errors raised here do not say.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class _Farewell(paramiko.SSHException):
    """The words of a server that ended the connection, and whether they refuse the login."""

    def __init__(self, reason: int, words: str) -> None:
        super().__init__(words)
        self.refuses = reason in REFUSALS or words.lower().startswith(TOO_MANY)


class _Transport(paramiko.Transport):
    """paramiko's, but it tells a link that is dead from a login that was refused, and what it trips over.

    Whatever it trips over in a hostile server's packets is an SSHException.
    """

    farewell: _Farewell | None = None

    def get_exception(self) -> Exception | None:
        error = super().get_exception()
        if isinstance(error, EOFError) or (error is None and not self.is_active()):
            # paramiko makes an AuthenticationException of either in a login, as of a server's no.
            return self.farewell or paramiko.SSHException()
        if error is None or isinstance(error, paramiko.SSHException | OSError):
            return error
        return paramiko.SSHException(f"what it sends is no SSH ({type(error).__name__})")

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        # paramiko only logs it.
        self.farewell = _Farewell(message.get_int(), message.get_string().decode("utf-8", "replace"))

    def refusal(self) -> str | None:
        """Return the words with which the server hung up, if they refuse the login."""
        if self.farewell is not None:
            return str(self.farewell) if self.farewell.refuses else None
        # `get_banner` has none of a link that is dead.
        banner = self.auth_handler.banner if self.auth_handler is not None else None
        return (
            "its Tailscale does not permit it" if paramiko.util.b(banner or "").startswith(TAILSCALE_REFUSES) else None
        )

    def was_answered(self) -> bool:
        """Whether the server has answered the last attempt to log in."""
        event = self.auth_handler.auth_event if self.auth_handler is not None else None
        return event is not None and event.is_set()

    def takes(self, key: paramiko.PKey) -> bool:
        """Whether the server takes signatures of such a key; asked with another, paramiko ends the connection."""
        extensions: dict[str, bytes] = self.server_extensions  # type: ignore[attr-defined]  # the stubs leave it out
        said = extensions.get("server-sig-algs", b"").decode("ascii", "replace")
        ours = {kind for kind in self.preferred_pubkeys if "rsa" in kind}
        return not said or "rsa" not in key.get_name() or not ours.isdisjoint(said.split(","))


class Link:
    """A connection that is logged in. Closed by `close`, or by its own watch when the target falls silent.

    Attributes:
        endpoint: where it leads.
        host_key: the key that answered.
        login_key: `TYPE BASE64` of the public key that let us in; empty if it was none, or a certificate.
        transport: paramiko's side of it.

    """

    def __init__(
        self,
        endpoint: Endpoint,
        stream: wire.Wire,
        transport: paramiko.Transport,
        host_key: hostkeys.HostKey,
        key: paramiko.PKey | None,
    ) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self.login_key = f"{key.get_name()} {key.get_base64()}" if key and not _is_certificate(key) else ""
        self.host_key = host_key
        self._wire = stream
        self._cut_at: float | None = None
        self._why_lost = ""
        self._closed = threading.Event()
        for work in (self._ask, self._watch):
            threading.Thread(target=work, daemon=True, name=f"ssh-{endpoint.host}").start()

    def _ask(self) -> None:
        """Ask for an answer every KEEPALIVE_S seconds, so that a living target is never silent for long."""
        while not self._closed.wait(KEEPALIVE_S) and self.transport.is_active():
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self.transport.global_request("keepalive@openssh.com", wait=True)

    def _watch(self) -> None:
        """Close the link when the target is silent, or when a call hangs beyond its deadline."""
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
        """Cut the link if what happens in this block hangs beyond the deadline."""
        before = self._cut_at
        self._cut_at = deadline.at + GRACE_S
        try:
            yield
        finally:
            self._cut_at = before

    def lost(self, during: str, why: str = "") -> ConnectionLost:
        """Return the error that says that, and why, the link broke; why is asked of the link if it is not given."""
        error = self.transport.get_exception()
        why = why or self._why_lost or (printable(str(error))[:200] if error else "") or "the other side hung up"
        return ConnectionLost(
            f"The connection to {self.endpoint} broke during `{during}`: {why}.",
            hint="What runs there may go on. Try again when the target answers.",
        )

    def close(self) -> None:
        """End the connection and what carries it. May be called twice."""
        self._closed.set()
        self.transport.close()
        self._wire.close()


def open_link(endpoint: Endpoint, deadline: Deadline) -> Link:
    """Connect, verify the host key, log in.

    Raises:
        Unreachable: nothing answers, or no SSH server does, or the link breaks before we are logged in.
        DeadlinePassed: something answers, but not to the end in time.
        NotTrusted: see hostkeys.check.
        LoginRefused: the server does not let us in.
        ConfigError: see hostkeys.trust_of.

    """
    trust = hostkeys.trust_of(endpoint)
    stream = _open_wire(endpoint, deadline)
    try:
        transport = _Transport(stream)  # type: ignore[arg-type]  # a socket-like object is enough
        transport.daemon = True
        try:
            host_key = _shake_hands(endpoint, stream, transport, trust, deadline)
            hostkeys.check(endpoint, trust, host_key)
            login_key = _log_in(endpoint, stream, transport, deadline)
            stream.trust()
        except BaseException:
            transport.close()
            raise
    except BaseException:
        stream.close()
        raise
    return Link(endpoint, stream, transport, host_key, login_key)


def _open_wire(endpoint: Endpoint, deadline: Deadline) -> wire.Wire:
    match endpoint.proxy:
        case None:
            return wire.Wire(wire.open_tcp(endpoint.host, endpoint.address, endpoint.port, deadline))
        case ProxyCommand() as proxy:
            return wire.open_command(endpoint, proxy)
        case Socks5() as proxy:
            return wire.Wire(wire.open_socks5(endpoint.host, proxy, endpoint.address, endpoint.port, deadline))
        case Jump(via=via):
            return _tunnel(endpoint, open_link(via, deadline), deadline)


def _tunnel(endpoint: Endpoint, hop: Link, deadline: Deadline) -> wire.Wire:
    try:
        with hop.bounded(deadline):
            channel = hop.transport.open_channel(
                "direct-tcpip",
                (endpoint.address, endpoint.port),
                ("127.0.0.1", 0),
                timeout=max(deadline.left_s(), 0.1),
            )
    except (paramiko.SSHException, EOFError, OSError) as error:
        hop.close()
        raise Unreachable(
            f"{endpoint.host}: {hop.endpoint} opens no way to {endpoint.address}:{endpoint.port}: "
            f"{printable(str(error))[:200]}.",
            hint="See that the target is up, and that the jump host may forward TCP.",
        ) from error
    return wire.Wire(channel, close_carrier=hop.close)


def _shake_hands(
    endpoint: Endpoint,
    stream: wire.Wire,
    transport: _Transport,
    trust: hostkeys.Trust,
    deadline: Deadline,
) -> hostkeys.HostKey:
    """Exchange keys, and return the one that the server has proved to have."""
    options = transport.get_security_options()
    options.ciphers = CIPHERS
    # Ask for a type that is known, so that a server with several keys shows the one to compare with.
    known = {"rsa-sha2-512" if kind == "ssh-rsa" else kind for kind in trust.kinds()}
    options.key_types = tuple(sorted(options.key_types, key=lambda kind: kind not in known))
    transport.banner_timeout = transport.handshake_timeout = max(deadline.left_s(), 0.1)
    try:
        transport.start_client(timeout=max(deadline.left_s(), 0.1))
    except (paramiko.SSHException, EOFError, OSError) as error:
        if not deadline.passed():
            said = stream.explain() or printable(str(error))[:200] or "it hung up"
            raise Unreachable(
                f"{endpoint}: no SSH server answered: {said}.",
                hint="See what listens there, and that the way to it is open.",
            ) from error
    # Not by `get_remote_server_key`, which fails if the link broke just now: the login says that better.
    key = transport.host_key
    if key is None or not transport.initial_kex_done:
        # `start_client` returns without an error when its time is up.
        said = stream.explain()
        raise DeadlinePassed(
            f"{endpoint}: no SSH handshake within {deadline.allowed_s:.0f} s{': ' + said if said else ''}.",
            hint="Something accepts connections there without answering. See that the target is up.",
        )
    return hostkeys.HostKey(key.get_name(), key.get_base64())


def _log_in(endpoint: Endpoint, stream: wire.Wire, transport: _Transport, deadline: Deadline) -> paramiko.PKey | None:
    """Log in, and return the key that did it; None if no key was asked for.

    Only a server that says so refuses. A link that breaks before the answer to an attempt is out of reach: the target
    may be on its way into another system just then.
    """
    tried: list[str] = []
    try:
        # First without any proof, as OpenSSH does: it is how Tailscale's own SSH server lets one in.
        for name, key in itertools.chain([("none", None)], _keys(endpoint, tried)):
            if deadline.passed():
                raise _no_answer(endpoint, deadline)
            if key is not None and not transport.takes(key):
                tried.append(f"{name} (the server takes no RSA keys)")
                continue
            transport.auth_timeout = max(deadline.left_s(), 0.1)
            try:
                if key is None:
                    left = transport.auth_none(endpoint.user)
                else:
                    tried.append(name)
                    left = transport.auth_publickey(endpoint.user, key)
            except paramiko.AuthenticationException as error:
                # paramiko also says so when it has waited long enough, by a clock that somebody may have set.
                if not transport.was_answered():
                    raise _no_answer(endpoint, deadline) from error
                continue
            if not left:
                return key
            raise _refused(endpoint, f"it wants {' and '.join(left)} beside the key {name}")
    except (paramiko.SSHException, EOFError, OSError) as error:
        why = transport.refusal()
        if why is not None:
            raise _refused(endpoint, f"{printable(why)[:200]}; tried {', '.join(tried) or 'no key'}") from error
        said = stream.explain() or printable(str(transport.farewell or error))[:200] or "the other side hung up"
        raise Unreachable(
            f"{endpoint}: the connection broke at the login: {said}.",
            hint="See that the target is up; if it is, the log of its sshd says why.",
        ) from error
    raise _refused(endpoint, f"tried {', '.join(tried)}" if tried else "there is no key to try")


def _no_answer(endpoint: Endpoint, deadline: Deadline) -> DeadlinePassed:
    return DeadlinePassed(
        f"{endpoint}: no answer to the login within {deadline.allowed_s:.0f} s.",
        hint="The target is very slow, or its sshd hangs.",
    )


def _refused(endpoint: Endpoint, why: str) -> LoginRefused:
    return LoginRefused(
        f"{endpoint} refused the login: {why}.",
        hint=f"Put your public key into authorized_keys of {endpoint.user}; check user and identity_file.",
    )


def _is_certificate(key: paramiko.PKey) -> bool:
    return key.public_blob is not None or "-cert-" in key.get_name()


def _keys(endpoint: Endpoint, tried: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """Yield the keys to offer; notes in `tried` why a file could not be used."""
    for file in endpoint.identity_files:
        key = _load(file, tried)
        if key is not None:
            yield str(file), key
    with contextlib.suppress(paramiko.SSHException, OSError):
        agent = paramiko.Agent()
        try:
            for agent_key in agent.get_keys()[:AGENT_KEYS]:
                yield f"the agent's {agent_key.comment or agent_key.fingerprint}", agent_key
        finally:
            agent.close()


def _load(file: Path, tried: list[str]) -> paramiko.PKey | None:
    try:
        return paramiko.PKey.from_path(file)
    except (TypeError, paramiko.PasswordRequiredException):
        tried.append(f"{file} (has a passphrase: load it into your SSH agent)")
    except OSError as error:
        tried.append(f"{file} ({error.strerror})")
    except (
        ValueError,
        paramiko.SSHException,
        paramiko.pkey.UnknownKeyType,
        cryptography.exceptions.UnsupportedAlgorithm,
    ):
        tried.append(f"{file} (is no private key that can be read)")
    return None
