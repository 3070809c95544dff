"""The vault: who can read it, what it keeps, and that it encrypts."""

from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest

from tasks.model.errors import ConfigError
from tasks.model.settings import Settings
from tasks.tailnet.vault import Vault

POISON = b"privkey:poison"


def vault(folder: Path, **more: object) -> Vault:
    return Vault(Settings.model_validate({"state_dir": folder, **more}))


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    entry = vault(tmp_path).store("cottage", POISON)
    assert entry.path.read_bytes() == POISON
    assert entry.path.stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in entry.path.parents[:2]} == {0o700}
    assert not entry.encrypted


def test_newest_are_kept(tmp_path: Path) -> None:
    kept = vault(tmp_path, vault_keep=2)
    entries = [kept.store("cottage", bytes([number])) for number in range(4)]
    other = kept.store("barn", b"x")
    assert [entry.path.exists() for entry in entries] == [False, False, True, True]
    assert other.path.exists()
    assert kept.latest("cottage") == entries[-1]
    assert kept.latest("absent") is None
    assert list(entries[-1].path.parent.glob(".*")) == []


def test_fewer_than_the_number_to_keep(tmp_path: Path) -> None:
    kept = vault(tmp_path, vault_keep=5)
    entries = [kept.store("cottage", bytes([number])) for number in range(5)]
    assert all(entry.path.exists() for entry in entries)


def test_new_one_is_kept_when_the_clock_was_set_back(tmp_path: Path) -> None:
    kept = vault(tmp_path, vault_keep=1)
    folder = kept.store("cottage", b"first").path.parent
    (folder / "20990101T000000.000000Z-aaaaaaaaaaaa.tar.gz").write_bytes(b"future")
    entry = kept.store("cottage", b"new")
    assert list(folder.iterdir()) == [entry.path]


def test_encrypted_for_the_recipient(tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    entry = vault(tmp_path, age_recipient=str(key.to_public())).store("cottage", POISON)
    assert entry.encrypted
    assert entry.path.name.endswith(".tar.gz.age")
    assert pyrage.decrypt(entry.path.read_bytes(), [key]) == POISON
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and POISON in path.read_bytes()]


def test_wrong_recipient_stores_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="HOLDFAST_AGE_RECIPIENT"):
        vault(tmp_path, age_recipient="age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqq").store("cottage", POISON)
    assert list(tmp_path.rglob("*.tar.gz*")) == []


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "vault").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be written"):
        vault(tmp_path).store("cottage", POISON)
