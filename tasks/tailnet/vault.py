"""The vault: the operator's own copies of state archives, a folder a host, encrypted if a recipient is set."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyrage  # type: ignore[import-untyped]

from tasks.model.errors import ConfigError
from tasks.model.settings import Settings

_SUFFIX: Final = ".tar.gz"


@dataclass(frozen=True, slots=True)
class VaultEntry:
    """A state archive in the vault.

    Attributes:
        path: the file: `TIME-DIGEST.tar.gz`, or `….tar.gz.age` if it is encrypted.
        sha256: digest of the file as it lies there, in hexadecimal.

    """

    path: Path
    sha256: str

    @property
    def encrypted(self) -> bool:
        """Whether it is encrypted with age."""
        return self.path.suffix == ".age"


class Vault:
    """The vault that the settings name: folders 0700, files 0600, the newest `vault_keep` for each host.

    Args:
        settings: folder, age recipient and number of archives to keep.

    """

    def __init__(self, settings: Settings) -> None:
        self._root = settings.vault_dir
        self._recipient = settings.age_recipient
        self._keep = settings.vault_keep

    def store(self, host: str, archive: bytes) -> VaultEntry:
        """Keep an archive, whole or not at all, and drop the oldest ones beyond the number to keep.

        Args:
            host: the host's name in the inventory.
            archive: a checked state archive.

        Raises:
            ConfigError: the vault cannot be written, or the age recipient is none.

        """
        sealed, suffix = self._sealed(archive)
        digest = hashlib.sha256(sealed).hexdigest()
        # Microseconds keep the order of two archives of the same second.
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{digest[:12]}{_SUFFIX}{suffix}"
        try:
            folder = self._folder(host)
            _write(folder / name, sealed)
            # The new one stays even if the clock was set back and its name is not the last.
            others = [path for path in self._files(host) if path.name != name]
            for old in others[: max(0, len(others) + 1 - self._keep)]:
                old.unlink(missing_ok=True)  # another run may prune too
        except OSError as error:
            raise ConfigError(
                f"the vault {self._root} cannot be written: {error.strerror}.", hint="Correct HOLDFAST_STATE_DIR."
            ) from error
        return VaultEntry(folder / name, digest)

    def latest(self, host: str) -> VaultEntry | None:
        """Return the newest archive of a host, or None."""
        files = self._files(host)
        return VaultEntry(files[-1], hashlib.sha256(files[-1].read_bytes()).hexdigest()) if files else None

    def _sealed(self, archive: bytes) -> tuple[bytes, str]:
        if self._recipient is None:
            return archive, ""
        try:
            recipient = pyrage.x25519.Recipient.from_str(self._recipient)
        except pyrage.RecipientError as error:
            raise ConfigError(
                f"HOLDFAST_AGE_RECIPIENT is no age public key: {self._recipient}.", hint="Make one with age-keygen."
            ) from error
        return pyrage.encrypt(archive, [recipient]), ".age"

    def _folder(self, host: str) -> Path:
        folder = self._root / host
        for path in (self._root, folder):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.chmod(0o700)
        return folder

    def _files(self, host: str) -> list[Path]:
        return sorted(path for path in (self._root / host).glob(f"*{_SUFFIX}*") if path.suffix in (".gz", ".age"))


def _write(path: Path, content: bytes) -> None:
    """Write a new file of 0600: beside its place first, then renamed, both on the disk when this returns."""
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
