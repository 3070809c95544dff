"""The vault: the operator's own copies of state archives, one folder a host, encrypted if a recipient is set."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyrage  # type: ignore[import-untyped]
from pydantic import ValidationError

from holdfast.base import clock
from holdfast.base.errors import ConfigError
from holdfast.base.frozen import Frozen
from holdfast.base.settings import Settings
from holdfast.facts.identity import Identity, same_node

_SUFFIX: Final = ".tar.gz"
_TIME: Final = "%Y%m%dT%H%M%S.%fZ"


class Label(Frozen):
    """Written beside an archive: whose it is. Nothing in it is secret.

    Attributes:
        identity: the node that the archive restores.
        host_key: the SSH host key of the machine from which it came, `TYPE BASE64`.

    """

    identity: Identity
    host_key: str


@dataclass(frozen=True, slots=True)
class VaultEntry:
    """A state archive in the vault.

    Attributes:
        path: the file: `TIME-DIGEST.tar.gz`, or `….tar.gz.age` if it is encrypted.
        label: whose it is.

    """

    path: Path
    label: Label


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of the vault, with or without a readable label.

    Attributes:
        path: the file.
        label: whose it is; None if there is no label, or it cannot be read.
        size_bytes: the file's size.

    """

    path: Path
    label: Label | None
    size_bytes: int

    @property
    def encrypted(self) -> bool:
        """True if it is encrypted with age."""
        return self.path.suffix == ".age"

    @property
    def when(self) -> datetime | None:
        """When it was stored, from its name; None if the name has another form."""
        try:
            return datetime.strptime(self.path.name.partition("-")[0], _TIME).replace(tzinfo=UTC)
        except ValueError:
            return None


class Vault:
    """The vault that the settings name: folders 0700, files 0600, the newest `vault_keep` for each host.

    Args:
        settings: folder, age recipient and identity, and number of archives to keep.

    """

    def __init__(self, settings: Settings) -> None:
        self._root = settings.vault_dir
        self._recipient = settings.age_recipient
        self._identity_file = settings.age_identity_file
        self._keep = settings.vault_keep

    def store(self, host: str, archive: bytes, label: Label) -> VaultEntry:
        """Store an archive, whole or not at all, and remove the oldest ones beyond the number to keep.

        Args:
            host: the host's name in the inventory.
            archive: a checked state archive.
            label: whose it is.

        Raises:
            ConfigError: the vault cannot be written, or the age recipient is invalid.

        """
        sealed, suffix = self._sealed(archive)
        # Microseconds keep two archives of the same second in order.
        digest = hashlib.sha256(sealed).hexdigest()[:12]
        name = f"{clock.utc():{_TIME}}-{digest}{_SUFFIX}{suffix}"
        try:
            folder = self._folder(host)
            _write(folder / name, sealed)
            _write(_label_of(folder / name), label.model_dump_json().encode())
            # The new one stays even if the clock was set back and its name is not the last.
            others = [path for path in self._files(host) if path.name != name]
            for old in others[: max(0, len(others) + 1 - self._keep)]:
                for path in (_label_of(old), old):
                    path.unlink(missing_ok=True)  # another run may prune too
        except OSError as error:
            raise ConfigError(
                f"the vault {self._root} cannot be written: {error.strerror}.", hint="Correct HOLDFAST_STATE_DIR."
            ) from error
        return VaultEntry(folder / name, label)

    def newest(self, host: str, host_key: str, identity: Identity | None = None) -> VaultEntry | None:
        """Return the newest archive whose label names this machine, or None.

        Args:
            host: the host's name in the inventory; other machines may have had it before.
            host_key: the SSH host key that answers there now.
            identity: the node that it must restore, or None for any.

        """
        for path in reversed(self._files(host)):
            label = _read_label(path)
            if label and label.host_key == host_key and (identity is None or same_node(identity, label.identity)):
                return VaultEntry(path, label)
        return None

    def hosts(self) -> tuple[str, ...]:
        """Return the names of the hosts that have a folder, sorted.

        Raises:
            ConfigError: the vault cannot be read.

        """
        try:
            return tuple(sorted(path.name for path in self._root.iterdir() if path.is_dir()))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unreadable(error) from error

    def kept(self, host: str) -> tuple[Kept, ...]:
        """Return a host's archives, the newest last; none is opened.

        Args:
            host: a name that `hosts` gave, or that of a host in the inventory.

        Raises:
            ConfigError: the vault cannot be read.

        """
        try:
            return tuple(Kept(path, _read_label(path), path.stat().st_size) for path in self._files(host))
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"the vault {self._root} cannot be read: {error.strerror}.", hint="Correct HOLDFAST_STATE_DIR."
        )

    def read(self, path: Path) -> bytes:
        """Return an archive of the vault, decrypted in memory.

        Raises:
            ConfigError: it is not on this machine, or the age identity does not decrypt it.

        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"the state archive {path} cannot be read here: {error.strerror}.",
                hint="Retry on the worker that ran the phase preserve, or copy its vault here.",
            ) from error
        return self._opened(content, str(path)) if path.suffix == ".age" else content

    def check_opens(self) -> None:
        """Check that this worker can decrypt what this vault stores.

        Raises:
            ConfigError: it is encrypted, and the age identity is missing or not the recipient's.

        """
        sealed, suffix = self._sealed(b"holdfast")
        if suffix:
            self._opened(sealed, f"the vault {self._root}")

    def _sealed(self, archive: bytes) -> tuple[bytes, str]:
        if self._recipient is None:
            return archive, ""
        try:
            recipient = pyrage.x25519.Recipient.from_str(self._recipient)
        except pyrage.RecipientError as error:
            raise ConfigError(
                f"HOLDFAST_AGE_RECIPIENT is not an age public key: {self._recipient}.", hint="Make one with age-keygen."
            ) from error
        return pyrage.encrypt(archive, [recipient]), ".age"

    def _opened(self, sealed: bytes, what: str) -> bytes:
        if self._identity_file is None:
            raise ConfigError(
                f"{what} is encrypted, and there is no key here to decrypt it.",
                hint="Set HOLDFAST_AGE_IDENTITY_FILE to the file of the age identity, or set"
                " keep.tailscale_state = false.",
            )
        try:
            content: bytes = pyrage.decrypt(sealed, _identities(self._identity_file))
        except pyrage.DecryptError as error:
            raise ConfigError(
                f"{what} is encrypted to another key than the one in {self._identity_file}.",
                hint="Set HOLDFAST_AGE_IDENTITY_FILE to the identity of HOLDFAST_AGE_RECIPIENT.",
            ) from error
        return content

    def _folder(self, host: str) -> Path:
        folder = self._root / host
        for path in (self._root, folder):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.chmod(0o700)
        return folder

    def _files(self, host: str) -> list[Path]:
        return sorted(path for path in (self._root / host).glob(f"*{_SUFFIX}*") if path.suffix in (".gz", ".age"))


def _label_of(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.json")


def _read_label(archive: Path) -> Label | None:
    try:
        return Label.model_validate_json(_label_of(archive).read_bytes())
    except (OSError, ValidationError):
        return None


def _identities(file: Path) -> list[object]:
    """Read an age identity file: one key a line, comments with `#` (age's specification, and age-keygen's output)."""
    hint = "Make one with age-keygen; its public key goes into HOLDFAST_AGE_RECIPIENT."
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        return [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except OSError as error:
        raise ConfigError(
            f"HOLDFAST_AGE_IDENTITY_FILE, {file}, cannot be read: {error.strerror}.", hint=hint
        ) from error
    except (UnicodeDecodeError, pyrage.IdentityError):
        # The cause is dropped: its text may hold a part of the key.
        raise ConfigError(f"HOLDFAST_AGE_IDENTITY_FILE, {file}, holds no age identity.", hint=hint) from None


def _write(path: Path, content: bytes) -> None:
    """Write a new file with mode 0600: under another name, then renamed; both are on the disk when this returns."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
