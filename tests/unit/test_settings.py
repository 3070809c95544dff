"""The operator's settings."""

import re
import subprocess
from pathlib import Path

import pytest

from holdfast.base.errors import ConfigError
from holdfast.base.settings import _OTHERS, PROJECT, Settings, script, settings


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(f"HOLDFAST_{field.upper()}", raising=False)


def test_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    said = settings()
    assert said.state_dir == tmp_path / "xdg" / "holdfast"
    assert said.inventory == PROJECT / "deployments" / "hosts.toml"
    assert (said.tailscale, said.nix) == (("tailscale",), ("nix",))
    assert {said.vault_dir.parent, said.pins.parent, said.runs_dir.parent} == {said.state_dir}


def test_environment_wins_over_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HOLDFAST_VAULT_KEEP=3\nHOLDFAST_STATE_DIR=/dotenv\nPREFECT_API_URL=http://x\n")
    monkeypatch.setenv("HOLDFAST_STATE_DIR", "~/here")
    monkeypatch.setenv("HOLDFAST_TAILSCALE", '["tailscale", "--socket=/s"]')
    said = settings()
    assert said.vault_keep == 3
    assert said.state_dir == Path("~/here").expanduser()
    assert said.tailscale == ("tailscale", "--socket=/s")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HOLDFAST_VAULT_KEEP", "none", "HOLDFAST_VAULT_KEEP"),
        ("HOLDFAST_VAULT_KEEP", "0", "HOLDFAST_VAULT_KEEP"),
        ("HOLDFAST_AGE_RECIPIENT", "me", "HOLDFAST_AGE_RECIPIENT"),
        ("HOLDFAST_NIX", "nix --option", "HOLDFAST_NIX is not a list in JSON"),
        ("HOLDFAST_TAILSCALE", "[]", "HOLDFAST_TAILSCALE"),
    ],
)
def test_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        settings()
    assert said in str(error.value)
    assert "should match pattern" not in str(error.value)
    assert "\n" not in str(error.value)


def test_misspelt_name_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("HOLDFAST_INVENTROY=/mine.toml\nPREFECT_API_URL=http://x\n")
    with pytest.raises(ConfigError) as error:
        settings()
    assert str(error.value).startswith(
        f"HOLDFAST_INVENTROY in {dotenv} is no setting. Did you mean HOLDFAST_INVENTORY? Hint: "
    )
    assert "/mine.toml" not in str(error.value)
    dotenv.unlink()
    monkeypatch.setenv("HOLDFAST_QUICKLY", "secret")
    with pytest.raises(ConfigError, match=r"^HOLDFAST_QUICKLY in the environment is no setting\. Hint: "):
        settings()


def test_names_of_lab_and_tests_are_no_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _OTHERS:
        monkeypatch.setenv(name, "x")
    assert settings().vault_keep == 5


def test_every_variable_of_the_project_is_known() -> None:
    """A name that a script or a test reads must not be refused."""
    files = subprocess.run(["git", "ls-files"], cwd=PROJECT, check=True, capture_output=True, text=True).stdout.split()
    texts = [(PROJECT / file).read_text(errors="ignore") for file in files if not file.startswith("tests/unit/")]
    constants = {"HOLDFAST_", "HOLDFAST_DIR", "HOLDFAST_RAM_DIR"}
    read = set(re.findall(r"HOLDFAST_[A-Z_]*", "\n".join(texts))) - constants
    known = {f"HOLDFAST_{field.upper()}" for field in Settings.model_fields} | _OTHERS
    assert {"HOLDFAST_LAB", "HOLDFAST_ROOT", "HOLDFAST_VENV", "HOLDFAST_NIXPKGS"} <= read
    assert read <= known


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_reference_names_every_setting() -> None:
    reference = (PROJECT / "docs" / "reference.md").read_text()
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in reference] == []


def test_scripts_are_found_by_name() -> None:
    assert script("any/facts.sh").startswith("#!/bin/sh\n")
    with pytest.raises(FileNotFoundError):
        script("absent.sh")
