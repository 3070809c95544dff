"""Logging in to an SSH server: the attempts, what counts as a refusal, and a server that waits for a person."""

import logging
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final

import paramiko
from paramiko.kex_curve25519 import KexCurve25519

from holdfast.base import overlap
from holdfast.base.deadline import Deadline, or_raise
from holdfast.base.errors import DeadlinePassed, LoginRefused, Unreachable
from holdfast.base.telling import tell
from holdfast.base.text import clip, printable
from holdfast.plan.way_in import MAX_KEYS, Method
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.keys import CannotSign, Offer
from holdfast.ssh.publickey import algorithm_for, is_certificate, kind_of
from holdfast.ssh.userauth import Answer, UserAuth
from holdfast.ssh.wire import Wire

# Reasons of a disconnect that refuse the login (RFC 4253, 11.1): host not allowed to connect, no more authentication
# methods available, illegal user name.
REFUSAL_REASONS: Final = frozenset({1, 14, 15})
# OpenSSH and Go send this with the number of a protocol error.
TOO_MANY_ATTEMPTS: Final = "too many authentication"
# Tailscale's own SSH server gives its refusal in a banner that begins so, and hangs up without another word.
TAILSCALE_BANNER: Final = b"tailscale: "
# How long a person has who must confirm the login in a browser (Tailscale SSH in check mode), and how long a server
# with an address in its banner may take to answer before that is what it waits for.
PERSON_WITHIN_S: Final = 300.0
CHECK_AFTER_S: Final = 2.0
# A person may have to confirm a signature, or touch a key. Nobody there must not cost the other keys their time.
SIGN_WITHIN_S: Final = 15.0
_ADDRESS: Final = re.compile(rb"https?://[^\s]")
_LONGEST_WORDS: Final = 400

_CURVE: Final = "curve25519-sha256"

# Its tracebacks repeat what the errors raised here say.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class _Disconnect(paramiko.SSHException):
    """The message with which a server ended the connection, and whether it refuses the login."""

    def __init__(self, reason: int, words: str) -> None:
        super().__init__(words)
        self.too_many = words.lower().startswith(TOO_MANY_ATTEMPTS)
        self.refuses = reason in REFUSAL_REASONS or self.too_many


class TriesRanOut(Exception):
    """The server allows no more attempts on this connection, and there are keys left to offer."""


class LoginTransport(paramiko.Transport):
    """paramiko's transport, which also tells a dead link from a refused login.

    Whatever it trips over in a hostile server's packets is an SSHException.
    """

    disconnect: _Disconnect | None = None
    certificates_first = False
    # RFC 8731 gave the same exchange a name without a vendor; a server may know only that.
    _kex_info: ClassVar = {**paramiko.Transport._kex_info, _CURVE: KexCurve25519}  # type: ignore[attr-defined]
    _preferred_kex: ClassVar = (*paramiko.Transport._preferred_kex, _CURVE)  # type: ignore[attr-defined]

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Return the host key algorithms, in order: certificates first where an authority is known, else none."""
        plain_ones = [kind for kind in super().preferred_keys if "-cert-" not in kind]
        certificates = [f"{kind}-cert-v01@openssh.com" for kind in plain_ones] if self.certificates_first else []
        return (*certificates, *plain_ones)

    def get_exception(self) -> Exception | None:
        """Return the error that ended the link, or None; see the class."""
        error = super().get_exception()
        if isinstance(error, EOFError) or (error is None and not self.is_active()):
            return self.disconnect or paramiko.SSHException()
        if error is None or isinstance(error, paramiko.SSHException | OSError):
            return error
        return paramiko.SSHException(f"it sent invalid SSH data ({type(error).__name__})")

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        # paramiko only logs it.
        self.disconnect = _Disconnect(message.get_int(), message.get_string().decode("utf-8", "replace"))

    def signature_algorithms(self) -> list[str]:
        """Return what the server says that it takes (RFC 8308); empty if it does not say."""
        extensions: dict[str, bytes] = self.server_extensions  # type: ignore[attr-defined]  # the stubs leave it out
        said = extensions.get("server-sig-algs", b"").decode("ascii", "replace")
        return said.split(",") if said else []


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """How the server let us in.

    Attributes:
        offers: the keys or certificates that it took, in their order; none if it asked for none.
        unused: if it asked for none, the keys that would have been offered.

    """

    offers: tuple[Offer, ...] = ()
    unused: tuple[Offer, ...] = ()

    @property
    def method(self) -> Method:
        """By what the server let us in."""
        if not self.offers:
            return "no key"
        return "certificate" if is_certificate(self.offers[-1].blob) else "key"

    @property
    def keys(self) -> tuple[str, ...]:
        """`TYPE BASE64` of the plain public key that was taken; if there was none, of all that are there."""
        return tuple(dict.fromkeys(offer.key for offer in (self.offers[-1:] or self.unused)))[:MAX_KEYS]

    @property
    def key(self) -> str:
        """`TYPE BASE64` of the public key; empty if it was none, or a certificate, which says nothing about keys."""
        last = self.offers[-1] if self.offers else None
        return "" if last is None or is_certificate(last.blob) else last.key


@dataclass(slots=True)
class Attempts:
    """What is left to try, over several connections if one allows too few.

    Attributes:
        left: the keys not offered yet.
        tried: what was tried, or cannot be, for messages.

    """

    left: deque[Offer]
    tried: list[str] = field(default_factory=list)

    def in_words(self) -> str:
        """Return what was tried."""
        return f"tried {', '.join(self.tried)}" if self.tried else "there is no key to try"


def log_in(
    endpoint: Endpoint, stream: Wire, transport: LoginTransport, attempts: Attempts, deadline: Deadline
) -> LoggedIn:
    """Log in, and return how.

    Raises:
        LoginRefused: the server says that it does not let us in.
        TriesRanOut: it allows no more attempts on this connection.
        Unreachable: the link broke before the answer to an attempt: the target may be on its way into another
            system.
        DeadlinePassed: the server did not answer in time.
        Stopped: the run is cancelled.

    """
    auth = UserAuth(transport, endpoint.user)
    offered = len(attempts.left)
    try:
        auth.begin(deadline)
        # First without a key, as OpenSSH does: this is how Tailscale's own SSH server lets one in.
        answer = _without_key(endpoint, auth, deadline)
        if answer.kind == "in":
            return LoggedIn(unused=tuple(attempts.left))
        return _with_keys(endpoint, auth, transport, attempts, answer, deadline)
    except TimeoutError as error:
        raise _no_answer(endpoint, deadline, _said(auth, transport)) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        disconnect = transport.disconnect
        if disconnect is not None and disconnect.too_many and attempts.left and len(attempts.left) < offered:
            raise TriesRanOut from error
        words = _said(auth, transport)
        if (disconnect is not None and disconnect.refuses) or auth.banner.startswith(TAILSCALE_BANNER):
            raise _refused(endpoint, f"{words}; {attempts.in_words()}") from error
        said = stream.explain() or words or printable(str(error))[:200] or "the other side hung up"
        raise Unreachable(
            f"{endpoint}: the connection broke during the login: {said}.",
            hint="Check that the target is up; if it is, read the log of its sshd.",
        ) from error


def _without_key(endpoint: Endpoint, auth: UserAuth, deadline: Deadline) -> Answer:
    """Ask to be let in without a key. A server that answers with an address to visit, and waits, gets the time."""
    auth.ask_without_key()
    answer = auth.waited_for(deadline, CHECK_AFTER_S)
    while answer is None and not deadline.passed():
        if _ADDRESS.search(auth.banner):
            return _confirmed_by_person(endpoint, auth)
        answer = auth.waited_for(deadline, CHECK_AFTER_S)
    if answer is None:
        raise TimeoutError
    return answer


def _confirmed_by_person(endpoint: Endpoint, auth: UserAuth) -> Answer:
    words = _cleaned(auth.banner)
    tell(
        f"{endpoint} waits for a person to confirm this login, as Tailscale SSH does in check mode. It says: {words}."
        f" Open that address in a browser, within {PERSON_WITHIN_S:.0f} s; this waits."
    )
    try:
        with overlap.alone():
            answer = auth.wait(Deadline.after(PERSON_WITHIN_S))
    except TimeoutError as error:
        raise DeadlinePassed(
            f"{endpoint}: nobody confirmed the login within {PERSON_WITHIN_S:.0f} s; the server says: {words}.",
            hint="Tailscale SSH in check mode: be there to open the address, or let the tailnet's policy accept this"
            ' login (action "accept").',
        ) from error
    tell(f"{endpoint} has its answer")
    return answer


def _with_keys(
    endpoint: Endpoint,
    auth: UserAuth,
    transport: LoginTransport,
    attempts: Attempts,
    answer: Answer,
    deadline: Deadline,
) -> LoggedIn:
    methods, taken = answer.methods, tuple[Offer, ...]()
    while "publickey" in methods and attempts.left:
        if deadline.passed():
            raise TimeoutError
        offer = attempts.left.popleft()
        algorithm = algorithm_for(
            offer.blob, accepted=endpoint.accepted_algorithms, server=transport.signature_algorithms()
        )
        if not algorithm:
            attempts.tried.append(f"{offer.name} ({_why_no_algorithm(offer, transport)})")
            continue
        attempts.tried.append(offer.name)
        answer = _try(auth, transport, offer, algorithm, attempts, deadline)
        if answer.kind == "in":
            return LoggedIn((*taken, offer))
        if answer.kind == "no":
            methods = answer.methods
            taken = (*taken, offer) if answer.partial else taken
    words = _banner(auth)
    if taken:
        raise _refused(endpoint, f"after {taken[-1].name} it also requires {' or '.join(methods)}{words}")
    if "publickey" not in methods:
        raise _refused(endpoint, f"it takes no keys, only {' or '.join(methods) or 'nothing'}{words}")
    raise _refused(endpoint, f"{attempts.in_words()}{words}")


def _try(
    auth: UserAuth,
    transport: LoginTransport,
    offer: Offer,
    algorithm: str,
    attempts: Attempts,
    deadline: Deadline,
) -> Answer:
    """Offer a key, and sign if it is welcome. Return `welcome` if it was, and cannot sign."""
    try:
        answer = auth.offer(offer.blob, algorithm, deadline)
    except (paramiko.SSHException, EOFError, OSError):
        if not transport.remote_version.startswith("SSH-2.0-OpenSSH"):
            # Go's servers count before they read: this key was not judged. OpenSSH's judge first.
            attempts.left.append(offer)
        raise
    if answer.kind != "welcome":
        return answer
    within = Deadline.after(min(SIGN_WITHIN_S, deadline.timeout_s()))
    data = auth.to_sign(offer.blob, algorithm)
    try:
        signature = offer.sign(data, algorithm.removesuffix("-cert-v01@openssh.com"), within)
    except CannotSign as error:
        attempts.tried[-1] += f" (welcome, but {error})"
        return answer
    return auth.prove(offer.blob, algorithm, signature, deadline)


def _why_no_algorithm(offer: Offer, transport: LoginTransport) -> str:
    if "rsa" in kind_of(offer.blob) and transport.signature_algorithms():
        return "the server accepts no RSA keys"
    return "PubkeyAcceptedAlgorithms leaves it out"


def refused_after(endpoint: Endpoint, attempts: Attempts, connections: int) -> LoginRefused:
    """Return the error for a server that hung up so often before all keys were offered."""
    return _refused(
        endpoint,
        f"too many authentication failures, on {connections} connections; {attempts.in_words()}, and"
        f" {len(attempts.left)} more were not offered",
    )


def _no_answer(endpoint: Endpoint, deadline: Deadline, words: str) -> DeadlinePassed:
    return DeadlinePassed(
        f"{endpoint}: no answer to the login within {deadline.allowed_s:.0f} s{': ' + words if words else ''}.",
        hint=f"The target is very slow, or its sshd hangs.{or_raise(deadline.allowed_s)}",
    )


def _refused(endpoint: Endpoint, why: str) -> LoginRefused:
    return LoginRefused(
        f"{endpoint} refused the login: {why}.",
        hint=f"Put your public key into authorized_keys of {endpoint.user}; check user and identity_file.",
    )


def _said(auth: UserAuth, transport: LoginTransport) -> str:
    """Return the server's own words: of its banner, and of its goodbye."""
    words: Iterable[str] = (_cleaned(auth.banner), _cleaned(str(transport.disconnect or "").encode()))
    return "; ".join(word for word in words if word)


def _banner(auth: UserAuth) -> str:
    return f"; the server says: {_cleaned(auth.banner)}" if auth.banner.strip() else ""


def _cleaned(said: bytes) -> str:
    lines = (printable(line.strip()) for line in said.decode("utf-8", "replace").splitlines())
    return clip(" | ".join(line for line in lines if line), _LONGEST_WORDS).rstrip(".")
