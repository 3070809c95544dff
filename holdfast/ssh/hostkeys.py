"""Which SSH host keys to believe, and where they are kept.

The order is fixed: the user's known_hosts, else the key pinned in the inventory, else the key that
Holdfast pinned on first use. The first of them that knows the target decides; a different key is refused.
Where known_hosts names an authority, a certificate that it signed is right too (holdfast/ssh/hostcert.py), and an
unknown key is never taken on first use.
The file format is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
"""

import base64
import fcntl
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.base.errors import ConfigError, NotTrusted
from holdfast.ssh.endpoint import Endpoint
from holdfast.ssh.hostcert import why_invalid
from holdfast.ssh.revoked import is_revoked

REVOKED: Final = "@revoked"
AUTHORITY: Final = "@cert-authority"


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public host key.

    Attributes:
        kind: its type, as `ssh-ed25519`.
        blob: its public part, in base64.

    """

    kind: str
    blob: str

    @classmethod
    def parse(cls, text: str) -> "HostKey | None":
        """Read `TYPE BASE64`; None if the text is something else."""
        fields = text.split()
        if len(fields) < 2:
            return None
        try:
            raw = base64.b64decode(fields[1], validate=True)
            name = fields[0].encode("ascii")
        except ValueError:  # binascii.Error, and what text that is not ASCII raises
            return None
        # The blob repeats the type, after four bytes that hold its length (RFC 4253, section 6.6).
        if raw[: 4 + len(name)] != len(name).to_bytes(4, "big") + name:
            return None
        return cls(kind=fields[0], blob=fields[1])

    def __str__(self) -> str:
        return f"{self.kind} {self.blob}"

    def raw(self) -> bytes:
        """Return its public part."""
        return base64.b64decode(self.blob)

    def shown(self) -> str:
        """Return type and fingerprint, the latter as `ssh-keygen -l` prints it."""
        digest = hashlib.sha256(self.raw()).digest()
        return f"{self.kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


@dataclass(frozen=True, slots=True)
class Expected:
    """A host key that a file or the inventory names.

    Attributes:
        key: the key.
        where: file and line, or the inventory.
        marker: `@revoked` if this key must never be accepted, `@cert-authority` if it signs certificates; else empty.

    """

    key: HostKey
    where: str
    marker: str = ""


@dataclass(frozen=True, slots=True)
class Trust:
    """What is known about one target's host key.

    Attributes:
        expected: the keys of the first source that knows the target; empty if none does.
        revoked: keys that are always refused.
        authorities: keys of authorities whose certificates count for the target.

    """

    expected: tuple[Expected, ...]
    revoked: tuple[Expected, ...]
    authorities: tuple[Expected, ...] = ()

    def kinds(self) -> tuple[str, ...]:
        """Return the types of the expected keys, to ask the server for them first."""
        return tuple(dict.fromkeys(item.key.kind for item in self.expected))


def trust_of(endpoint: Endpoint) -> Trust:
    """Look the target up in all sources, in their order.

    Raises:
        ConfigError: the key pinned in the inventory is invalid, or a file cannot be read.

    """
    wanted = endpoint.names_in_known_hosts()
    users = _look_up(endpoint.known_hosts, wanted)
    revoked = tuple(item for item in users if item.marker == REVOKED)
    authorities = tuple(item for item in users if item.marker == AUTHORITY)
    believed = tuple(item for item in users if not item.marker)
    if not believed and endpoint.pinned_key is not None:
        key = HostKey.parse(endpoint.pinned_key)
        if key is None:
            raise ConfigError(
                f"{endpoint.host}: the inventory's host_key is invalid: {endpoint.pinned_key[:60]!r}.",
                hint="Write `TYPE BASE64`, as in /etc/ssh/ssh_host_ed25519_key.pub on the target.",
            )
        believed = (Expected(key, "the inventory"),)
    if not believed:
        believed = tuple(_look_up([endpoint.pins], [endpoint.host]))
    return Trust(expected=believed, revoked=revoked, authorities=authorities)


def check(endpoint: Endpoint, trust: Trust, seen: HostKey, certificate: bytes | None = None) -> None:
    """Check the key that answered. Pin an unknown one if the endpoint allows first use.

    Also the key in a valid certificate is pinned then: the installer has that key, and not the certificate.

    Args:
        endpoint: who should answer.
        trust: what is known about its key.
        seen: the key that answered; of a certificate, the key in it.
        certificate: the certificate that answered, or None.

    Raises:
        NotTrusted: the key is revoked, is not the expected one, or is unknown and may not be pinned.

    """
    for item in trust.revoked:
        if item.key == seen or (certificate is not None and not why_invalid(certificate, item.key.raw(), None)):
            raise NotTrusted(
                f"{endpoint} answered with the host key {seen.shown()}, which {item.where} revokes.",
                hint="Find out why it was revoked before you continue.",
            )
    if endpoint.revoked_keys is not None and is_revoked(endpoint.revoked_keys, seen.raw(), certificate):
        raise NotTrusted(
            f"{endpoint} answered with the host key {seen.shown()}, which RevokedHostKeys {endpoint.revoked_keys}"
            " revokes, or which cannot be read.",
            hint="Find out why it was revoked before you continue.",
        )
    if any(item.key == seen for item in trust.expected):
        return
    if trust.authorities:
        _check_certificate(endpoint, trust, seen, certificate)
        return
    if trust.expected:
        wanted = "; ".join(f"{item.key.shown()} ({item.where})" for item in trust.expected)
        raise NotTrusted(
            f"{endpoint} answered with the host key {seen.shown()}, expected {wanted}.",
            hint="Find out why the key changed. If the new key is right, correct the entry with the old one.",
        )
    if not endpoint.allow_first_use:
        raise NotTrusted(
            f"{endpoint} answered with the host key {seen.shown()}, which is unknown here.",
            hint=f'Compare it with the key on the target, then set in the inventory: host_key = "{seen}"',
        )
    _pin(endpoint, seen)


def _check_certificate(endpoint: Endpoint, trust: Trust, seen: HostKey, certificate: bytes | None) -> None:
    """Check a certificate against the authorities for the target.

    Raises:
        NotTrusted: it is none, or no authority vouches for it.

    """
    principal = endpoint.host_key_alias or endpoint.certified_as or endpoint.address
    if certificate is None:
        reasons = ["it shows no certificate, only the plain key"]
    else:
        reasons = [why_invalid(certificate, item.key.raw(), principal.lower()) for item in trust.authorities]
        if "" in reasons:
            if endpoint.allow_first_use:
                _pin(endpoint, seen, instead=True)
            return
    named = ", ".join(item.where for item in trust.authorities)
    raise NotTrusted(
        f"{endpoint} answered with the host key {seen.shown()}, for which the authority in {named} does not vouch:"
        f" {'; '.join(dict.fromkeys(reasons))}.",
        hint="Renew the host's certificate, or add its own host key to your known_hosts once you have compared it.",
    )


def _look_up(files: Iterable[Path], names: Sequence[str]) -> list[Expected]:
    """Look the names up in all files together: the first name that is known counts, whichever file knows it."""
    lines = [(file, _lines_of(file)) for file in files]
    found: list[Expected] = []
    for name in names:
        believed = any(not item.marker for item in found)
        said = (item for file, of_file in lines for item in _matching(of_file, name, file))
        found += [item for item in said if item.marker or not believed]
    return found


def _lines_of(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").split("\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []  # as in OpenSSH; what may not be read could revoke a key
    except OSError as error:
        raise ConfigError(f"Cannot read {file}: {error.strerror}.", hint="Correct its permissions.") from error


def _matching(lines: Sequence[str], name: str, file: Path) -> list[Expected]:
    found = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if marker not in ("", REVOKED, AUTHORITY) or len(fields) < 3 or fields[0].startswith("#"):
            continue
        key = HostKey.parse(" ".join(fields[1:3]))
        if key is not None and _matches(fields[0], name):
            found.append(Expected(key, f"{file} line {number}", marker))
    return found


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|"):
        return _is_hash_of(patterns, name)
    hit = False
    for pattern in patterns.lower().split(","):
        # `[` has no meaning in these patterns, only `*` and `?` do.
        glob = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(name.lower(), glob):
            if pattern.startswith("!"):
                return False
            hit = True
    return hit


def _is_hash_of(hashed: str, name: str) -> bool:
    parts = hashed.split("|")
    if len(parts) != 4 or parts[1] != "1":
        return False
    try:
        salt, expected = base64.b64decode(parts[2]), base64.b64decode(parts[3])
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, name.lower().encode(), "sha1"), expected)


def _pin(endpoint: Endpoint, seen: HostKey, *, instead: bool = False) -> None:
    """Pin a key; `instead` of what was pinned before, because an authority vouches for it."""
    endpoint.pins.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(endpoint.pins, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Another run may have pinned a key in the meantime; it binds this run too.
        known = _look_up([endpoint.pins], [endpoint.host])
        if known and instead and all(item.key != seen for item in known):
            others = [line for line in file if line.split(" ", 1)[0] != endpoint.host]
            file.seek(0)
            file.truncate()
            file.write("".join(others))
            known = []
        if not known:
            file.write(f"{endpoint.host} {seen}\n")
            return
    check(endpoint, Trust(tuple(known), ()), seen)
