"""State archives: untrusted until checked, then proved to belong to one node.

Format of tailscaled.state, from tailscale's ipn/store/stores.go, ipn/store.go, ipn/prefs.go and
types/persist/persist.go: a JSON object of base64 values; `_current-profile` holds the name of another key, whose
value is the profile's preferences as JSON; in them `Config.PrivateNodeKey` is `privkey:` and 64 hexadecimal digits of a
Curve25519 key, `Config.NodeID` the stable node ID, and `Config.AttestationKey` a key of the TPM or absent.
"""

import base64
import hashlib
import io
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from holdfast.base.errors import NotTrusted
from holdfast.base.places import STATE_DIR
from holdfast.base.text import parse_object
from holdfast.facts.identity import Identity

# The same limits as nix/scripts/installer/installer-restore.sh.
MAX_ARCHIVE_BYTES: Final = 64 * 1024 * 1024
MAX_ARCHIVE_UNPACKED_BYTES: Final = 64 * 1024 * 1024
MAX_ARCHIVE_MEMBERS: Final = 2000
# Limits of the extended headers, which hold what does not fit into a plain one. tarfile's time grows with the square of
# a pax header (before Python 3.11.10), and it recurses once for each header before a file.
MAX_PAX_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 8192
MAX_EXTRA_HEADERS: Final = 2 * MAX_ARCHIVE_MEMBERS

STATE_FILE: Final = "tailscaled.state"
MAX_STATE_BYTES: Final = 4 * 1024 * 1024

# `./tailscaled.state`, or `var/lib/tailscale/tailscaled.state`.
_STATE_DEPTH: Final = 4
_LEGACY: Final = "_daemon"
_TAMPERED: Final = f"tailscaled writes nothing like this; look at {STATE_DIR} on the target."
_TOO_LARGE: Final = f"Move received files out of {STATE_DIR} on the target, then retry."
_AGAIN: Final = f"Retry; if it happens again, look at {STATE_DIR} on the target."

_PRIVATE_KEY: Final = re.compile(r"privkey:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class CheckedArchive:
    """An archive that is safe to unpack and holds the expected node.

    Attributes:
        sha256: digest of the archive, in hexadecimal.
        members: number of files and folders.
        unpacked_bytes: size of its files together.
        node_key: the public node key, derived from the private one in it.
        attested: True if it holds a key that only its machine's TPM can use, by which the node proves its machine.

    """

    sha256: str
    members: int
    unpacked_bytes: int
    node_key: str
    attested: bool = False


def check_archive(archive: bytes, identity: Identity) -> CheckedArchive:
    """Check a state archive (tar.gz of /var/lib/tailscale) without unpacking it to disk.

    The private key is read in memory only, and is in no result and no message.

    Raises:
        NotTrusted: it is not an archive, is too large, holds links, devices or paths that lead out of it, has no
            state, or restores a node other than `identity`.

    """
    members, unpacked, state = _read(archive)
    if state is None:
        raise NotTrusted(f"the state archive has no {STATE_FILE}.", hint=f"Is Tailscale's state in {STATE_DIR}?")
    node_key, node_id, attested = _node_of(state)
    if node_key != identity.node_key:
        raise NotTrusted(
            f"the state archive restores {node_key[:20]}…, but the node is {identity.describe()}.",
            hint="Check which profile is current there (`tailscale switch --list`), and where its state is.",
        )
    if node_id and identity.node_id and node_id != identity.node_id:
        raise NotTrusted(
            f"the state archive has the node ID {node_id[:40]!r}, expected {identity.node_id[:40]!r}.",
            hint="The control server has given this machine another ID since; restart tailscaled there, then retry.",
        )
    return CheckedArchive(hashlib.sha256(archive).hexdigest(), members, unpacked, node_key, attested)


def _read(archive: bytes) -> tuple[int, int, bytes | None]:
    """Return the number of members, their bytes, and the state file's content."""
    if len(archive) > MAX_ARCHIVE_BYTES:
        raise NotTrusted(f"the state archive is larger than {MAX_ARCHIVE_BYTES} bytes.", hint=_TOO_LARGE)
    members, unpacked = 0, 0
    state: bytes | None = None
    # Unpacked here, up to a limit, so that nothing inside tarfile can grow beyond it.
    plain = _gunzipped(archive)
    try:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:", tarinfo=_bounded_headers()) as tar:
            for member in tar:
                members += 1
                if members > MAX_ARCHIVE_MEMBERS:
                    raise NotTrusted(f"the state archive has more than {MAX_ARCHIVE_MEMBERS} files.", hint=_TOO_LARGE)
                path = _safe_path(member)
                unpacked += member.size if member.isreg() else 0
                if path.name == STATE_FILE and len(path.parts) <= _STATE_DEPTH:
                    if state is not None:
                        raise NotTrusted(f"the state archive has two files {STATE_FILE}.", hint=_TAMPERED)
                    state = _content(tar, member)
            # tarfile takes an unreadable header for the end; tar on the target skips it and continues.
            if plain[tar.offset :].strip(b"\0"):
                raise NotTrusted("the state archive has data after its end.", hint=_TAMPERED)
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
        raise NotTrusted(f"the state archive is damaged: {type(error).__name__}.", hint=_AGAIN) from error
    return members, unpacked, state


def _gunzipped(archive: bytes) -> bytes:
    limit = MAX_ARCHIVE_UNPACKED_BYTES + MAX_ARCHIVE_MEMBERS * 1536  # a header and the padding for each member
    unzip = zlib.decompressobj(wbits=31)
    try:
        plain = unzip.decompress(archive, limit + 1)
    except zlib.error as error:
        raise NotTrusted("the state archive is not a tar.gz.", hint=_AGAIN) from error
    if len(plain) > limit:
        raise NotTrusted(f"the state archive holds more than {MAX_ARCHIVE_UNPACKED_BYTES} bytes.", hint=_TOO_LARGE)
    if not unzip.eof:
        raise NotTrusted("the state archive is cut off.", hint=_AGAIN)
    if unzip.unused_data:
        # gzip on the target would unpack a second stream too, which nobody checked.
        raise NotTrusted("the state archive has data after its end.", hint=_TAMPERED)
    return plain


def _bounded_headers() -> type[tarfile.TarInfo]:
    """Return the class with which tarfile reads headers: it refuses large or many extended ones before reading them."""
    longest = dict.fromkeys((tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE), MAX_PAX_BYTES)
    longest |= dict.fromkeys((tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK), MAX_NAME_BYTES)
    seen = 0

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            nonlocal seen
            header = super().frombuf(buf, encoding, errors)
            if header.type in longest:
                seen += 1
                if seen > MAX_EXTRA_HEADERS or not 0 <= header.size <= longest[header.type]:
                    raise NotTrusted("the state archive has too many or too large extended headers.", hint=_TAMPERED)
            return header

    return Header


def _safe_path(member: tarfile.TarInfo) -> PurePosixPath:
    shown = repr(member.name[:80])
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise NotTrusted(f"the state archive holds a path that leads out of it: {shown}.", hint=_TAMPERED)
    if not (member.isreg() or member.isdir()) or member.sparse is not None or member.size < 0:
        raise NotTrusted(f"the state archive holds something that is neither file nor folder: {shown}.", hint=_TAMPERED)
    return path


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    if file is None or member.size > MAX_STATE_BYTES:
        raise NotTrusted(
            f"{STATE_FILE} in the archive is not a file of at most {MAX_STATE_BYTES} bytes.", hint=_TAMPERED
        )
    return file.read()


def _node_of(state: bytes) -> tuple[str, str, bool]:
    """Return the public node key and the node ID of the current profile, and whether it has an attestation key."""
    store = _json(state, STATE_FILE)
    if {"key", "nonce", "data"} == store.keys():
        raise NotTrusted(
            f"{STATE_FILE} is sealed by the machine's TPM.",
            hint="Start tailscaled there with --encrypt-state=false, so that the state can be carried.",
        )
    # Versions before profiles have one login, under this key (LegacyGlobalDaemonStateKey in tailscale's ipn/store.go).
    chosen = _value(store, "_current-profile") if store.get("_current-profile") or _LEGACY not in store else b""
    profile = chosen.decode("utf-8", "replace") or _LEGACY
    preferences = _json(_value(store, profile), "the current profile")
    config = preferences.get("Config")
    config = config if isinstance(config, dict) else {}
    private_key = config.get("PrivateNodeKey")
    match = _PRIVATE_KEY.fullmatch(private_key) if isinstance(private_key, str) else None
    if match is None or not int(match[1], 16):
        raise NotTrusted(f"{STATE_FILE} has no node key.", hint="Log in to the tailnet on the target.")
    public = X25519PrivateKey.from_private_bytes(bytes.fromhex(match[1])).public_key().public_bytes_raw()
    node_id = config.get("NodeID")
    return f"nodekey:{public.hex()}", node_id if isinstance(node_id, str) else "", bool(config.get("AttestationKey"))


def _value(store: dict[str, Any], key: str) -> bytes:
    value = store.get(key)
    if not isinstance(value, str):
        raise NotTrusted(f"{STATE_FILE} has no current profile.", hint="Log in to the tailnet on the target.")
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:  # binascii.Error, and what text that is not ASCII raises
        raise NotTrusted(f"{STATE_FILE} has an unexpected format.", hint=_AGAIN) from None


def _json(text: bytes, what: str) -> dict[str, Any]:
    try:
        return parse_object(text)
    except ValueError:
        # The cause is dropped: its text may hold a part of the secret.
        raise NotTrusted(f"{what} in the archive is not a JSON object.", hint=_AGAIN) from None
