"""`just vault`: what it lists, and that its refusals are one line."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import vault as verb
from holdfast.base.settings import PROJECT, Settings
from holdfast.inventory.host import Host
from holdfast.tailnet.vault import Label, Vault, VaultEntry
from holdfast.target.machine import Machine
from holdfast.target.restoring import PutBack
from tests.unit.test_vault import LABEL, NODE, POISON

INVENTORY = '[cottage]\ntarget = "100.64.0.2"\nkexec = "github:o/r#kexec"\n'


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    (tmp_path / "hosts.toml").write_text(INVENTORY)
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(tmp_path / "hosts.toml"))
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    return Vault(Settings(state_dir=tmp_path / "state"))


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert verb.main("list", *words) == 0
    return capsys.readouterr().out.splitlines()


def test_list(vault: Vault, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    named = Label(identity=NODE.model_copy(update={"dns_name": "cottage.example"}), host_key="ssh-ed25519 AAAA")
    old, new = vault.store("cottage", POISON, LABEL), vault.store("cottage", POISON, named)
    barn = vault.store("barn", POISON, LABEL)
    rows = [line for line in listed(capsys) if ".tar.gz" in line]
    assert [name for row in rows for name in (barn, new, old) if name.path.name in row] == [barn, new, old]
    assert ["newest" in row for row in rows] == [True, True, False]
    assert "cottage.example" in rows[1]
    for row in rows:
        assert "nodekey:abababababab…" in row
        assert "100.64.0.1" in row
        assert f"{len(POISON)} bytes" in row
        assert " UTC" in row
        assert "poison" not in row
    assert len([line for line in listed(capsys, "barn") if ".tar.gz" in line]) == 1
    (tmp_path / "hosts.toml").unlink()  # a host that is in no inventory any more is listed all the same
    assert any(barn.path.name in line for line in listed(capsys, "barn"))


def test_list_opens_nothing(vault: Vault, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = vault.store("cottage", POISON, LABEL).path
    path.rename(path.with_name(f"{path.name}.age"))
    monkeypatch.setattr(Vault, "read", None)
    (row,) = (line for line in listed(capsys) if ".tar.gz.age" in line)
    assert " yes " in row


@pytest.mark.parametrize("label", [None, "", "{}"])
def test_label_that_cannot_be_read_is_shown_as_such(
    vault: Vault, capsys: pytest.CaptureFixture[str], label: str | None
) -> None:
    path = vault.store("cottage", POISON, LABEL).path
    if label is None:
        path.with_name(f"{path.name}.json").unlink()
    else:
        path.with_name(f"{path.name}.json").write_text(label)
    assert any("unknown: no label that can be read" in line for line in listed(capsys))


def test_text_of_a_label_or_a_name_acts_on_nothing(vault: Vault, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = NODE.model_copy(update={"dns_name": "\x1b[2J[red]x[/red]", "node_key": "\u202enode\x07"})
    path = vault.store("cottage", POISON, Label(identity=hostile, host_key="k")).path
    path.rename(path.with_name("\x1b[31mx.tar.gz"))
    vault.store("cottage", POISON, Label(identity=hostile, host_key="k"))
    out = "\n".join(listed(capsys))
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "[red]x[/red]" in out
    assert "unknown" in out


def test_empty_vault_says_so(vault: Vault, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys)[0].endswith("is empty.")
    assert listed(capsys, "cottage")[0].endswith("has no archive of cottage.")
    vault.store("barn", POISON, LABEL)
    assert listed(capsys, "cottage")[0].endswith("has no archive of cottage.")


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("words", [("list", "cotage"), ("restore", "cotage"), ("list", "../.."), ("restore", "../..")])
def test_unknown_host_is_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert verb.main(*words) == 2
    said = capsys.readouterr().err
    assert said.startswith("vault: ")
    assert "Hint: " in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [(), ("lst",), ("restore",), ("list", "a", "b"), ("restore", "a", "b", "c")])
def test_other_words(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert verb.main(*words) == 2
    assert capsys.readouterr().err == f"{verb.USAGE}\n"


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (
            PutBack(NODE, already=True),
            ["is nodekey:abababababab… (100.64.0.1) already: there is nothing to restore."],
        ),
        (PutBack(NODE, "/var/lib/x"), ["cottage is nodekey:", "No other machine may", "is in /var/lib/x there"]),
    ],
)
def test_restore_says_what_became_of_it(
    vault: Vault,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    done: PutBack,
    said: list[str],
) -> None:
    stored = vault.store("cottage", POISON, LABEL).path
    seen: list[tuple[bool, Path]] = []

    @contextlib.contextmanager
    def reach(machine: Machine) -> Iterator[Host]:
        yield machine.host

    def restore(machine: Machine, target: Host, entry: VaultEntry, _settings: Settings) -> PutBack:
        seen.append((target.go_on_over_local, entry.path))
        assert machine.host.name == "cottage"
        return done

    monkeypatch.setattr(Machine, "connect", reach)
    monkeypatch.setattr(verb, "restore", restore)
    assert verb.main("restore", "cottage") == 0
    out = capsys.readouterr().out
    for part in said:
        assert part in out
    assert seen == [(True, stored)]


def test_it_does_not_even_load_prefect() -> None:
    code = "import deployments.vault, sys; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False, timeout=60).returncode == 0
