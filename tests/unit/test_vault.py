"""The vault: who can read it, what it keeps, and that it encrypts."""

from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest

from holdfast.base.errors import ConfigError
from holdfast.base.settings import Settings
from holdfast.facts.identity import Identity
from holdfast.tailnet.vault import Label, Vault, VaultEntry

POISON = b"privkey:poison"
KEY = "ssh-ed25519 AAAA"
NODE = Identity(node_key="nodekey:" + "ab" * 32, node_id="n1", addresses=("100.64.0.1",))
OTHER = Identity(node_key="nodekey:" + "cd" * 32, node_id="n2", addresses=("100.64.0.2",))
LABEL = Label(identity=NODE, host_key=KEY)


def vault(folder: Path, **more: object) -> Vault:
    return Vault(Settings.model_validate({"state_dir": folder, **more}))


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    entry = vault(tmp_path).store("cottage", POISON, LABEL)

    assert entry.path.read_bytes() == POISON
    assert entry.path.stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in entry.path.parents[:2]} == {0o700}


def test_newest_are_kept(tmp_path: Path) -> None:
    kept = vault(tmp_path, vault_keep=2)
    entries = [kept.store("cottage", bytes([number]), LABEL) for number in range(4)]
    other = kept.store("barn", b"x", LABEL)

    assert [entry.path.exists() for entry in entries] == [False, False, True, True]
    assert other.path.exists()
    assert kept.newest("cottage", KEY) == entries[-1]
    assert kept.newest("absent", KEY) is None
    folder = entries[-1].path.parent
    assert list(folder.glob(".*")) == []
    assert len(list(folder.iterdir())) == 4  # two archives, each with its label


def test_fewer_than_the_number_to_keep(tmp_path: Path) -> None:
    kept = vault(tmp_path, vault_keep=5)
    entries = [kept.store("cottage", bytes([number]), LABEL) for number in range(5)]
    assert all(entry.path.exists() for entry in entries)


def test_new_one_is_kept_when_the_clock_was_set_back(tmp_path: Path) -> None:
    kept = vault(tmp_path, vault_keep=1)
    folder = kept.store("cottage", b"first", LABEL).path.parent
    (folder / "20990101T000000.000000Z-aaaaaaaaaaaa.tar.gz").write_bytes(b"future")
    entry = kept.store("cottage", b"new", LABEL)

    assert [path for path in folder.iterdir() if path.suffix == ".gz"] == [entry.path]


def test_encrypted_for_the_recipient(tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    entry = vault(tmp_path, age_recipient=str(key.to_public())).store("cottage", POISON, LABEL)

    assert entry.path.name.endswith(".tar.gz.age")
    assert pyrage.decrypt(entry.path.read_bytes(), [key]) == POISON
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and POISON in path.read_bytes()]


def test_wrong_recipient_stores_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="HOLDFAST_AGE_RECIPIENT"):
        vault(tmp_path, age_recipient="age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqq").store("cottage", POISON, LABEL)

    assert list(tmp_path.rglob("*.tar.gz*")) == []


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "vault").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be written"):
        vault(tmp_path).store("cottage", POISON, LABEL)


def test_newest_is_of_the_same_machine_and_node(tmp_path: Path) -> None:
    kept = vault(tmp_path)
    first = kept.store("cottage", b"first", LABEL)
    renewed = kept.store("cottage", b"second", Label(identity=OTHER, host_key=KEY))
    kept.store("cottage", b"third", Label(identity=NODE, host_key="ssh-ed25519 BBBB"))
    assert kept.newest("cottage", KEY) == renewed
    assert kept.newest("cottage", KEY, NODE) == first
    assert kept.newest("cottage", "ssh-rsa AAAA") is None
    renamed = OTHER.model_copy(update={"dns_name": "x.example"})
    assert kept.newest("cottage", KEY, renamed) == renewed


@pytest.mark.parametrize("label", [None, "", "{}", '{"host_key": "ssh-ed25519 AAAA"}'])
def test_archive_that_nobody_knows_is_passed_over(tmp_path: Path, label: str | None) -> None:
    kept = vault(tmp_path)
    known = kept.store("cottage", b"first", LABEL)
    unknown = kept.store("cottage", b"second", LABEL)
    label_file = unknown.path.with_name(f"{unknown.path.name}.json")
    if label is None:
        label_file.unlink()
    else:
        label_file.write_text(label)
    assert kept.newest("cottage", KEY) == known


def sealed(folder: Path, key: pyrage.x25519.Identity, *, identity_file: str) -> tuple[Vault, VaultEntry]:
    (folder / "age.txt").write_text(identity_file)
    made = vault(folder, age_recipient=str(key.to_public()), age_identity_file=folder / "age.txt")
    return made, made.store("cottage", POISON, LABEL)


def test_encrypted_archive_is_read_again(tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    kept, entry = sealed(tmp_path, key, identity_file=f"# created: today\n# public key: x\n{key}\n")
    kept.check_opens()
    assert kept.read(entry.path) == POISON
    assert vault(tmp_path / "plain").store("cottage", POISON, LABEL).path.suffix == ".gz"
    vault(tmp_path / "plain").check_opens()


def test_encrypted_archive_that_nobody_here_can_open(tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    other = str(pyrage.x25519.Identity.generate())
    kept, entry = sealed(tmp_path, key, identity_file=other)
    for use in (kept.check_opens, lambda: kept.read(entry.path)):
        with pytest.raises(ConfigError, match="encrypted to another key") as error:
            use()
        assert other not in str(error.value)
    blind = vault(tmp_path, age_recipient=str(key.to_public()))
    for use in (blind.check_opens, lambda: blind.read(entry.path)):
        with pytest.raises(ConfigError, match="HOLDFAST_AGE_IDENTITY_FILE"):
            use()


@pytest.mark.parametrize("text", ["AGE-SECRET-KEY-1NONSENSE\n", "\xff"])
def test_invalid_identity_file(tmp_path: Path, text: str) -> None:
    kept, _ = sealed(tmp_path, pyrage.x25519.Identity.generate(), identity_file=text)
    with pytest.raises(ConfigError, match="no age identity") as error:
        kept.check_opens()
    assert "NONSENSE" not in str(error.value)
    assert error.value.__cause__ is None
    (tmp_path / "age.txt").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        kept.check_opens()


def test_archive_that_is_on_another_worker(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read here"):
        vault(tmp_path).read(tmp_path / "vault" / "cottage" / "x.tar.gz")
