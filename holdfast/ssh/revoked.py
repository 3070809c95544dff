"""RevokedHostKeys of the user's ssh config: a list of public keys, or a key revocation list (ssh-keygen(1), KRL)."""

import tempfile
from pathlib import Path
from typing import Final

from holdfast.base.process import run_local
from holdfast.ssh.hostcert import why_invalid
from holdfast.ssh.publickey import in_words, parse_line

_KRL: Final = b"SSHKRL\n"
_ANSWERS_WITHIN_S: Final = 20


def is_revoked(file: Path, key: bytes, certificate: bytes | None) -> bool:
    """Return whether the file revokes a host key, its certificate or who signed that.

    As in OpenSSH, a file that cannot be read revokes everything.

    Args:
        file: the list.
        key: the public key that answered; of a certificate, the key in it.
        certificate: the certificate that answered, or None.

    Raises:
        ConfigError: it is a KRL, and there is no `ssh-keygen` here.

    """
    try:
        data = file.read_bytes()
    except OSError:
        return True
    if data.startswith(_KRL):
        return _is_in_krl(file, certificate or key)
    listed = [parse_line(line) for line in data.decode("utf-8", "replace").splitlines()]
    return any(
        blob == key or (certificate is not None and not why_invalid(certificate, blob, None))
        for blob in listed
        if blob is not None
    )


def _is_in_krl(file: Path, blob: bytes) -> bool:
    with tempfile.NamedTemporaryFile("w", prefix="holdfast-key-", suffix=".pub") as shown:
        shown.write(f"{in_words(blob)}\n")
        shown.flush()
        asked = ["ssh-keygen", "-Q", "-f", str(file.absolute()), shown.name]
        done = run_local(asked, timeout_s=_ANSWERS_WITHIN_S, check=False, if_missing="Install OpenSSH's client.")
    return done.exit_status != 0
