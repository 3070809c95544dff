"""A system in a Nix file without a flake, with a real nix: a run evaluates it once, whatever becomes of the file."""

import json
import platform
import shutil
from pathlib import Path

import pytest

from holdfast.base.errors import CommandFailed, ConfigError
from holdfast.inventory.host import Host
from holdfast.inventory.loading import load_inventory
from holdfast.nixcli.flake import build_system
from holdfast.nixcli.kept import changed_since, evaluation_of, is_locked
from tests.nix.evaluator import Nix
from tests.unit.cases import host

FILE = """
{ other ? "/dev/other" }:
let
  text = builtins.readFile ./text;
  made = name: derivation {
    inherit name;
    system = "SYSTEM";
    builder = "/bin/sh";
    args = [ "-c" "echo '${text}' >$out" ];
  };
in {
  machines.web.config = {
    disko.devices.disk.main = { device = "/dev/${text}"; destroy = false; };
    disko.devices.disk.other.device = other;
    networking.hostName = "web";
    system.build = { toplevel = made "toplevel"; diskoScript = made "disko"; };
  };
  machines.bare.config.system.build = { toplevel = made "toplevel"; diskoScript = made "disko"; };
  machines.broken.config = throw "no such luck";
}
""".replace("SYSTEM", f"{platform.machine()}-linux")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Nix:
    """A store of its own: garbage is collected there."""
    return Nix(tmp_path_factory.mktemp("store"))


@pytest.fixture
def folder(store: Nix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLDFAST_NIX", json.dumps([store.program]))
    made = tmp_path / "machines"
    made.mkdir()
    (made / "default.nix").write_text(FILE)
    (made / "text").write_text("old")
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir()
    return made


def web(folder: Path, attribute: str = "machines.web") -> Host:
    return host(file=folder, attribute=attribute)


def test_a_run_uses_what_it_evaluated(store: Nix, folder: Path, run: Path) -> None:
    assert not is_locked(run)
    first = evaluation_of(run, web(folder))
    assert is_locked(run)
    assert {name: (disk.device, disk.destroy) for name, disk in first.disks.items()} == {
        "main": ("/dev/old", False),
        "other": ("/dev/other", True),
    }
    assert first.configuration.host_name == "web"
    shutil.rmtree(folder)
    store.run("store", "gc")
    assert evaluation_of(run, web(folder)) == first
    assert changed_since(run) == []
    assert build_system(first.system, web(folder), run) > 0
    assert store.stored(first.system.toplevel.out).read_text() == "old\n"


def test_its_lock_is_what_it_evaluates_to(folder: Path, tmp_path: Path) -> None:
    locks = []
    for number, (text, comment) in enumerate([("old", ""), ("old", "# the same\n"), ("new", "")]):
        run = tmp_path / str(number)
        run.mkdir()
        (folder / "text").write_text(text)
        (folder / "default.nix").write_text(FILE + comment)
        locks.append(evaluation_of(run, web(folder)).system.lock)
    assert locks[0] == locks[1] != locks[2]
    assert locks[0].short.startswith("content ")
    assert locks[0].reference == str(folder)


def test_another_attribute_is_evaluated(folder: Path, run: Path) -> None:
    evaluation_of(run, web(folder))
    with pytest.raises(ConfigError, match=r"has no machines\.bare\.config\.disko\.devices\.disk"):
        evaluation_of(run, web(folder, "machines.bare"))


def test_missing_attribute_is_one_clear_line(folder: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match=r"machines has no machines\.mill\. Hint") as error:
        evaluation_of(run, web(folder, "machines.mill"))
    assert "nixosSystem" in error.value.hint
    assert not is_locked(run)


def test_file_that_cannot_be_evaluated(folder: Path, run: Path) -> None:
    with pytest.raises(CommandFailed, match="no such luck"):
        evaluation_of(run, web(folder, "machines.broken"))
    (folder / "default.nix").write_text("{ no nix")
    with pytest.raises(CommandFailed, match="syntax error"):
        evaluation_of(run, web(folder))
    (folder / "default.nix").unlink()
    with pytest.raises(CommandFailed):
        evaluation_of(run, web(folder))


def test_file_of_the_inventory_begins_at_its_folder(folder: Path, tmp_path: Path, run: Path) -> None:
    inventory = tmp_path / "hosts.toml"
    # A flake of the defaults does not count for a host with a file.
    inventory.write_text(
        '[defaults]\nflake = "github:o/r"\n[web]\nfile = "machines/default.nix"\nattribute = "machines.web"\n'
    )
    asked = load_inventory(inventory).host("web")
    assert asked.file == folder / "default.nix"
    assert asked.system == f"{folder}/default.nix, machines.web"
    assert evaluation_of(run, asked).configuration.host_name == "web"
