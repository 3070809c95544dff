"""The keys to offer to a server, in OpenSSH's order, and who signs with each.

The order is that of pubkey_prepare in OpenSSH's sshconnect2.c: first the agent's keys that the config names too, then
the agent's others (none with IdentitiesOnly), then the other files. A key is known by its public half, so `key.pub`
chooses a key of the agent, and a key with a passphrase is found in the agent.
"""

import base64
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from holdfast.base.deadline import Deadline
from holdfast.ssh.agent import Agent, AgentError, AgentKey, put_string, take_string
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.publickey import in_words, is_certificate, kind_of, parse_line, plain

# A key file is small; this is no place to read a disk.
MAX_KEY_FILE_BYTES: Final = 256 * 1024
# An agent lists its keys at once; only to sign may take a person.
LIST_WITHIN_S: Final = 10.0
_OPENSSH: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_MAGIC: Final = b"openssh-key-v1\0"

_Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class CannotSign(Exception):
    """A key cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A key that can be offered to the server.

    Attributes:
        name: where it comes from, for messages.
        blob: the public key, or the certificate.
        sign: returns the signature of some data with an algorithm; raises CannotSign.
        file: the file of its private half; None if the agent signs.
        agent: the socket of the agent that signs, or None.

    """

    name: str
    blob: bytes
    sign: Callable[[bytes, str, Deadline], bytes]
    file: Path | None = None
    agent: Path | None = None

    @property
    def key(self) -> str:
        """`TYPE BASE64` of the plain public key."""
        return in_words(plain(self.blob))


@dataclass(frozen=True, slots=True)
class _Named:
    """A public half that the config names, and the file where its private half may be."""

    blob: bytes
    name: str
    file: Path


@contextlib.contextmanager
def offers(endpoint: Endpoint, unusable: list[str], deadline: Deadline, *, first: str = "") -> Iterator[list[Offer]]:
    """Give the keys to offer, in their order; the agent stays open while the body runs.

    Args:
        endpoint: whose files and agent.
        unusable: takes each key that cannot be used, with the reason.
        deadline: for the agent to list its keys.
        first: `TYPE BASE64` of the key to offer before all others.

    """
    named = list(_named(endpoint, unusable))
    with contextlib.ExitStack() as stack:
        agent, held = None, list[AgentKey]()
        if endpoint.agent is not None:
            within = Deadline.after(min(LIST_WITHIN_S, deadline.left_s()))
            try:
                agent = stack.enter_context(contextlib.closing(Agent(endpoint.agent, within)))
                held = agent.keys(within)
            except AgentError as error:
                unusable.append(f"the agent {endpoint.agent} ({error})")
        found = list(_of_agent(agent, held, named, only_named=endpoint.identities_only)) if agent else []
        found += _of_files(named, found, unusable)
        yield _in_order(endpoint, found, first)


def _in_order(endpoint: Endpoint, found: Sequence[Offer], first: str) -> list[Offer]:
    """Put that key first, then the inventory's own; leave out what comes twice."""

    own = None
    if endpoint.own_key is not None:
        with contextlib.suppress(OSError):
            own = _plain_or_none(_public_half(endpoint.own_key) or b"")

    def rank(offer: Offer) -> int:
        if offer.key == first:
            return 0
        return 1 if own is not None and own == plain(offer.blob) else 2

    once = {offer.blob: offer for offer in reversed(found) if _plain_or_none(offer.blob) is not None}
    return sorted((offer for offer in found if once.get(offer.blob) is offer), key=rank)


def _named(endpoint: Endpoint, unusable: list[str]) -> Iterator[_Named]:
    for file in endpoint.identity_files:
        try:
            blob = _public_half(file)
        except OSError as error:
            unusable.append(f"{file} ({error.strerror})")
            continue
        if blob is None:
            unusable.append(f"{file} ({_why_unreadable(file)})")
            continue
        # A certificate that is named as a key has its private half in the file without the ending.
        bare = file.name.removesuffix("-cert.pub")
        yield _Named(blob, str(file), file.with_name(bare) if is_certificate(blob) else file)
        # OpenSSH looks beside the key only if the config names no certificates.
        beside = file.with_name(f"{file.name}-cert.pub")
        if not endpoint.certificate_files and (certificate := _certificate(beside)) is not None:
            yield _Named(certificate, str(beside), file)
    for file in endpoint.certificate_files:
        certificate = _certificate(file)
        if certificate is None:
            unusable.append(f"{file} (not a readable certificate)")
        else:
            yield _Named(certificate, str(file), file.with_name(file.name.removesuffix("-cert.pub")))


def _certificate(file: Path) -> bytes | None:
    try:
        blob = _public_half(file)
    except OSError:
        return None
    return blob if blob is not None and is_certificate(blob) else None


def _of_agent(agent: Agent, held: Sequence[AgentKey], named: Sequence[_Named], *, only_named: bool) -> Iterator[Offer]:
    """Yield the agent's keys, those that the config names first, and certificates whose private half it has."""

    def signer(blob: bytes) -> Callable[[bytes, str, Deadline], bytes]:
        def sign(data: bytes, algorithm: str, deadline: Deadline) -> bytes:
            try:
                return agent.sign(blob, data, algorithm, deadline)
            except AgentError as error:
                raise CannotSign(str(error)) from error

        return sign

    def offer(key: AgentKey, blob: bytes, name: str = "") -> Offer:
        label = name or f"the agent's {key.comment or kind_of(key.blob)}"
        return Offer(label, blob, signer(key.blob), agent=agent.path)

    wanted = {item.blob for item in named}
    yield from (offer(key, key.blob) for key in held if key.blob in wanted)
    if not only_named:
        yield from (offer(key, key.blob) for key in held if key.blob not in wanted)
    by_plain = {_plain_or_none(key.blob): key for key in reversed(held)}
    for item in named:
        key = by_plain.get(_plain_or_none(item.blob))
        if key is not None and key.blob != item.blob:
            # The signature is the same for a key and for its certificate.
            yield offer(key, item.blob, item.name)
    if not only_named:
        for key in held:
            bare = _plain_or_none(key.blob)
            if is_certificate(key.blob) and bare is not None:
                yield offer(key, bare)


def _of_files(named: Sequence[_Named], found: Sequence[Offer], unusable: list[str]) -> Iterator[Offer]:
    """Yield the keys of files that the agent does not have."""
    there = {offer.blob for offer in found}
    files = list(dict.fromkeys(item.file for item in named))
    for item in named:
        if item.blob in there:
            continue
        reasons: list[str] = []
        wanted = _plain_or_none(item.blob)
        for file in [item.file, *(file for file in files if file != item.file)]:
            try:
                private = _load(file)
            except CannotSign as error:
                if file == item.file:
                    reasons.append(str(error))
                continue
            if _public_of(private) == wanted:
                yield Offer(item.name, item.blob, _signer(private), file=file)
                break
        else:
            unusable.append(f"{item.name} ({reasons[0] if reasons else 'its private half is another key'})")


def _plain_or_none(blob: bytes) -> bytes | None:
    try:
        return plain(blob)
    except ValueError:
        return None


def _public_half(file: Path) -> bytes | None:
    """Return the public key or certificate that belongs to a file, as ssh finds it: in the file, or in `FILE.pub`.

    Raises:
        OSError: there is neither, or the file cannot be read.

    """
    public = file.with_name(f"{file.name}.pub")
    try:
        data = _read(file)
    except FileNotFoundError:
        if not public.is_file():
            raise
        data = b""
    found = _public_in(data)
    if found is None and public.is_file():
        with contextlib.suppress(OSError):
            found = _public_in(_read(public))
    return found


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(MAX_KEY_FILE_BYTES)


def _public_in(data: bytes) -> bytes | None:
    if data.startswith(_OPENSSH):
        return _public_of_openssh(data)
    if data.startswith(b"-----BEGIN"):
        try:
            return _public_of(_load_bytes(data))
        except CannotSign:
            return None
    for line in data.decode("utf-8", "replace").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return parse_line(line)
    return None


def _public_of_openssh(data: bytes) -> bytes | None:
    """Return the public half of OpenSSH's own format: it is readable even if the private one is encrypted."""
    body = b"".join(line for line in data.split(b"-----END")[0].splitlines()[1:])
    try:
        raw = base64.b64decode(body, validate=True)
        if not raw.startswith(_MAGIC):
            return None
        at = len(_MAGIC)
        for _ in range(3):  # cipher, key derivation, its options
            _, at = take_string(raw, at)
        return take_string(raw, at + 4)[0]  # after the number of keys
    except ValueError:
        return None


def _why_unreadable(file: Path) -> str:
    try:
        _load(file)
    except CannotSign as error:
        return str(error)
    return "not a readable private key"


def _load(file: Path) -> _Private:
    try:
        data = _read(file)
    except FileNotFoundError as error:
        raise CannotSign("no private half beside it, and none in the agent") from error
    except OSError as error:
        raise CannotSign(error.strerror or str(error)) from error
    if _is_public(data):
        raise CannotSign("only a public key; its private half is not in the agent")
    return _load_bytes(data)


def _is_public(data: bytes) -> bool:
    return not data.startswith(b"-----BEGIN") and _public_in(data) is not None


def _load_bytes(data: bytes) -> _Private:
    load = serialization.load_ssh_private_key if data.startswith(_OPENSSH) else serialization.load_pem_private_key
    try:
        private = load(data, password=None)
    except TypeError as error:
        raise CannotSign("has a passphrase: load it into your SSH agent") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if b"ENCRYPTED" in data[:200]:
            raise CannotSign("has a passphrase: load it into your SSH agent") from error
        public = _public_of_openssh(data) if data.startswith(_OPENSSH) else None
        if public is not None and kind_of(public).startswith("sk-"):
            raise CannotSign("a FIDO key: load it into your SSH agent") from error
        raise CannotSign("not a readable private key") from error
    if not isinstance(private, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CannotSign("a key of a type that is not supported")
    return private


def _public_of(private: _Private) -> bytes | None:
    encoding, form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    try:
        return parse_line(private.public_key().public_bytes(encoding, form).decode())
    except (ValueError, UnsupportedAlgorithm):
        return None


def _signer(private: _Private) -> Callable[[bytes, str, Deadline], bytes]:
    def sign(data: bytes, algorithm: str, _deadline: Deadline) -> bytes:
        return put_string(algorithm.encode()) + put_string(_signature(private, data, algorithm))

    return sign


def _signature(private: _Private, data: bytes, algorithm: str) -> bytes:
    match private:
        case ed25519.Ed25519PrivateKey():
            return private.sign(data)
        case rsa.RSAPrivateKey():
            digest = hashes.SHA512() if algorithm == "rsa-sha2-512" else hashes.SHA256()
            return private.sign(data, padding.PKCS1v15(), digest)
        case _:
            by_size = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}  # RFC 5656, 6.2.1
            r, s = decode_dss_signature(private.sign(data, ec.ECDSA(by_size[private.key_size])))
            return put_string(_mpint(r)) + put_string(_mpint(s))


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
