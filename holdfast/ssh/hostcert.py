"""Whether an authority vouches for a server by a host certificate (ssh-keygen(1), CERTIFICATES)."""

import base64

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from holdfast.base import clock
from holdfast.base.text import printable
from holdfast.ssh.publickey import kind_of, parse_line, signed_with


def why_invalid(certificate: bytes, authority: bytes, principal: str | None) -> str:
    """Return why a certificate does not vouch for a host; empty if it does.

    Args:
        certificate: the certificate that answered.
        authority: the public key of the authority that must have signed it.
        principal: the name that it must be for, in lower case; None for any, at any time.

    """
    text = f"{kind_of(certificate)} {base64.b64encode(certificate).decode()}".encode()
    try:
        seen = serialization.load_ssh_public_identity(text)
        if not isinstance(seen, serialization.SSHCertificate):
            return "it is no certificate"
        form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        signer = parse_line(seen.signature_key().public_bytes(*form).decode())
        algorithm = signed_with(certificate)
        seen.verify_cert_signature()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        return f"its certificate cannot be verified ({type(error).__name__})"
    if signer != authority:
        return "another authority signed its certificate"
    if principal is None:
        return ""
    if algorithm == "ssh-rsa":
        return "its certificate is signed with SHA-1"
    if seen.type is not serialization.SSHCertificateType.HOST:
        return "its certificate is a user's, not a host's"
    now = clock.now()
    if now < seen.valid_after:
        return "its certificate is not valid yet"
    if now >= seen.valid_before:
        return "its certificate has expired"
    if seen.critical_options:
        return "its certificate has critical options, which a host's never has"
    if seen.valid_principals and principal.encode() not in seen.valid_principals:
        names = ", ".join(name.decode("utf-8", "replace") for name in seen.valid_principals[:5])
        return f"its certificate is for {printable(names)[:200]}, not for {principal}"
    return ""
