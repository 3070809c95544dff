"""Logging in to an SSH server: the keys to offer, the attempts, and what counts as a refusal."""

import contextlib
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cryptography.exceptions
import paramiko

from holdfast.base.deadline import Deadline, or_raise
from holdfast.base.errors import DeadlinePassed, LoginRefused, Unreachable
from holdfast.base.text import printable
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.wire import Wire

# sshd closes the connection after six attempts (MaxAuthTries), and the user's own files come first.
AGENT_KEYS: Final = 4
# Reasons of a disconnect that refuse the login (RFC 4253, 11.1): host not allowed to connect, no more authentication
# methods available, illegal user name.
REFUSAL_REASONS: Final = frozenset({1, 14, 15})
# OpenSSH and Go send this with the number of a protocol error.
TOO_MANY_ATTEMPTS: Final = "too many authentication"
# Tailscale's own SSH server gives its refusal in a banner that begins so, and hangs up without another word.
TAILSCALE_BANNER: Final = b"tailscale: "

# Its tracebacks repeat what the errors raised here say.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class _Disconnect(paramiko.SSHException):
    """The message with which a server ended the connection, and whether it refuses the login."""

    def __init__(self, reason: int, words: str) -> None:
        super().__init__(words)
        self.refuses = reason in REFUSAL_REASONS or words.lower().startswith(TOO_MANY_ATTEMPTS)


class LoginTransport(paramiko.Transport):
    """paramiko's transport, which also tells a dead link from a refused login.

    Whatever it trips over in a hostile server's packets is an SSHException.
    """

    disconnect: _Disconnect | None = None

    def get_exception(self) -> Exception | None:
        """Return the error that ended the link, or None; see the class."""
        error = super().get_exception()
        if isinstance(error, EOFError) or (error is None and not self.is_active()):
            # During a login paramiko turns both into an AuthenticationException, as if the server had refused.
            return self.disconnect or paramiko.SSHException()
        if error is None or isinstance(error, paramiko.SSHException | OSError):
            return error
        return paramiko.SSHException(f"it sent invalid SSH data ({type(error).__name__})")

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        # paramiko only logs it.
        self.disconnect = _Disconnect(message.get_int(), message.get_string().decode("utf-8", "replace"))

    def refusal(self) -> str | None:
        """Return the words with which the server hung up, or None if they do not refuse the login."""
        if self.disconnect is not None:
            return str(self.disconnect) if self.disconnect.refuses else None
        # `get_banner` returns None once the link is dead.
        banner = self.auth_handler.banner if self.auth_handler is not None else None
        if paramiko.util.b(banner or "").startswith(TAILSCALE_BANNER):
            return "its Tailscale does not permit this login"
        return None

    def was_answered(self) -> bool:
        """Return whether the server has answered the last attempt to log in."""
        event = self.auth_handler.auth_event if self.auth_handler is not None else None
        return event is not None and event.is_set()

    def accepts(self, key: paramiko.PKey) -> bool:
        """Return whether the server accepts signatures of this key's type.

        paramiko ends the connection if it is asked to log in with another.
        """
        extensions: dict[str, bytes] = self.server_extensions  # type: ignore[attr-defined]  # the stubs leave it out
        accepted = extensions.get("server-sig-algs", b"").decode("ascii", "replace")
        ours = {kind for kind in self.preferred_pubkeys if "rsa" in kind}
        return not accepted or "rsa" not in key.get_name() or not ours.isdisjoint(accepted.split(","))


def log_in(endpoint: Endpoint, stream: Wire, transport: LoginTransport, deadline: Deadline) -> str:
    """Log in, and return `TYPE BASE64` of the public key that was accepted; empty if it was none, or a certificate.

    Raises:
        LoginRefused: the server says that it does not let us in.
        Unreachable: the link broke before the answer to an attempt: the target may be on its way into another
            system.
        DeadlinePassed: the server did not answer in time.

    """
    tried: list[str] = []
    try:
        # First without a key, as OpenSSH does: this is how Tailscale's own SSH server lets one in.
        for name, key in itertools.chain([("none", None)], _keys(endpoint, tried)):
            if deadline.passed():
                raise _no_answer(endpoint, deadline)
            if key is not None and not transport.accepts(key):
                tried.append(f"{name} (the server accepts no RSA keys)")
                continue
            transport.auth_timeout = deadline.timeout_s()
            try:
                if key is None:
                    more = transport.auth_none(endpoint.user)
                else:
                    tried.append(name)
                    more = transport.auth_publickey(endpoint.user, key)
            except paramiko.AuthenticationException as error:
                # paramiko also raises it at the end of its own wait, by a clock that somebody may have set.
                if not transport.was_answered():
                    raise _no_answer(endpoint, deadline) from error
                continue
            if more:
                raise _refused(endpoint, f"after {name} it also requires {' and '.join(more)}")
            return f"{key.get_name()} {key.get_base64()}" if key and not _is_certificate(key) else ""
    except (paramiko.SSHException, EOFError, OSError) as error:
        why = transport.refusal()
        if why is not None:
            raise _refused(endpoint, f"{printable(why)[:200]}; tried {', '.join(tried) or 'no key'}") from error
        said = stream.explain() or printable(str(transport.disconnect or error))[:200] or "the other side hung up"
        raise Unreachable(
            f"{endpoint}: the connection broke during the login: {said}.",
            hint="Check that the target is up; if it is, read the log of its sshd.",
        ) from error
    raise _refused(endpoint, f"tried {', '.join(tried)}" if tried else "there is no key to try")


def _no_answer(endpoint: Endpoint, deadline: Deadline) -> DeadlinePassed:
    return DeadlinePassed(
        f"{endpoint}: no answer to the login within {deadline.allowed_s:.0f} s.",
        hint=f"The target is very slow, or its sshd hangs.{or_raise(deadline.allowed_s)}",
    )


def _refused(endpoint: Endpoint, why: str) -> LoginRefused:
    return LoginRefused(
        f"{endpoint} refused the login: {why}.",
        hint=f"Put your public key into authorized_keys of {endpoint.user}; check user and identity_file.",
    )


def _is_certificate(key: paramiko.PKey) -> bool:
    return key.public_blob is not None or "-cert-" in key.get_name()


def _keys(endpoint: Endpoint, tried: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """Yield the keys to offer; add to `tried` each file that cannot be used, with the reason."""
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
        tried.append(f"{file} (not a readable private key)")
    return None
