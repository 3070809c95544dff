"""Public keys and certificates as SSH sends them: their types, the key inside a certificate, and algorithms."""

import base64
from collections.abc import Sequence
from typing import Final

from holdfast.ssh.agent import put_string, take_string

CERT: Final = "-cert-v01@openssh.com"
# How many fields make the public key, by its type (RFC 4253, 6.6; RFC 5656; RFC 8709; OpenSSH's PROTOCOL.u2f).
_FIELDS: Final = {
    "ssh-ed25519": 1,
    "ssh-rsa": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}


def kind_of(blob: bytes) -> str:
    """Return the type that a key or certificate names; empty if it is neither."""
    try:
        return take_string(blob, 0)[0].decode("ascii")
    except ValueError:
        return ""


def is_certificate(blob: bytes) -> bool:
    """Return whether it is a certificate, and no plain key."""
    return kind_of(blob).endswith(CERT)


def plain(blob: bytes) -> bytes:
    """Return the plain public key of a certificate; a plain key as it is.

    Raises:
        ValueError: it cannot be read.

    """
    if not kind_of(blob).endswith(CERT):
        return blob
    bare, begin, end = _place_of_key(blob)
    return put_string(bare.encode()) + blob[begin:end]


def _place_of_key(certificate: bytes) -> tuple[str, int, int]:
    """Return the type of the key in a certificate, and where its fields begin and end."""
    kind = kind_of(certificate)
    bare = kind.removesuffix(CERT)
    bare = f"{bare}@openssh.com" if bare.startswith("sk-") else bare
    if bare not in _FIELDS:
        raise ValueError(f"unknown type {kind}")
    _, at = take_string(certificate, 0)
    _, begin = take_string(certificate, at)  # the nonce
    end = begin
    for _ in range(_FIELDS[bare]):
        _, end = take_string(certificate, end)
    return bare, begin, end


def signed_with(certificate: bytes) -> str:
    """Return the algorithm of the signature in a certificate (OpenSSH's PROTOCOL.certkeys).

    Raises:
        ValueError: it cannot be read.

    """
    at = _place_of_key(certificate)[2] + 8 + 4  # serial number, type
    for _ in range(2):  # key id, principals
        _, at = take_string(certificate, at)
    at += 8 + 8  # valid after, valid before
    for _ in range(4):  # critical options, extensions, reserved, the authority's key
        _, at = take_string(certificate, at)
    return kind_of(take_string(certificate, at)[0])


def parse_line(text: str) -> bytes | None:
    """Return the key or certificate of a line `TYPE BASE64 COMMENT`; None if it is something else."""
    fields = text.split(None, 2)
    if len(fields) < 2:
        return None
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except ValueError:
        return None
    return blob if kind_of(blob) == fields[0] else None


def in_words(blob: bytes) -> str:
    """Return `TYPE BASE64`."""
    return f"{kind_of(blob)} {base64.b64encode(blob).decode()}"


def algorithm_for(blob: bytes, *, accepted: Sequence[str] | None, server: Sequence[str]) -> str:
    """Return the algorithm to log in with; empty if there is none that both sides take.

    Args:
        blob: the key or certificate.
        accepted: the user's PubkeyAcceptedAlgorithms, or None for any.
        server: what the server says that it takes (`server-sig-algs`, RFC 8308); empty if it says nothing.

    """
    kind = kind_of(blob)
    cert = CERT if kind.endswith(CERT) else ""
    names = [kind]
    if kind.removesuffix(CERT) == "ssh-rsa":
        # Signatures with SHA-1 are not made; OpenSSH has them switched off since 8.8. Only for RSA keys key and
        # algorithm differ, so OpenSSH asks the server's list only for them.
        names = [f"rsa-sha2-{bits}{cert}" for bits in (512, 256)]
        names = [name for name in names if not server or name.removesuffix(CERT) in server]
    if accepted is not None:
        names = [name for name in accepted if name in names]
    return names[0] if names else ""
