"""Settings of Nix in the inventory: which are allowed, and that nix gets them."""

from pathlib import Path

import pytest

from holdfast.base.errors import ConfigError
from holdfast.inventory.loading import load_inventory
from holdfast.inventory.nix_options import check_nix_options
from tests.unit.desk import Desk
from tests.unit.test_whole_runs import inventory, run_flow  # noqa: F401  a fixture

pytestmark = pytest.mark.usefixtures("desk")
POISON = "ghp_poison"


def test_values_as_nix_reads_them() -> None:
    given = {"max-jobs": 4, "fallback": True, "substituters": "https://a.example https://b.example", "builders": ""}
    assert check_nix_options(given) == {
        "max-jobs": "4",
        "fallback": "true",
        "substituters": "https://a.example https://b.example",
        "builders": "",
    }
    kept = {"builders": "ssh://root@builder.example x86_64-linux /root/.ssh/id", "netrc-file": "/etc/nix/netrc"}
    assert check_nix_options(kept) == kept


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"access-tokens": f"github.com={POISON}"}, "access-tokens is a secret, and a command line is public"),
        ({"extra-access-tokens": f"github.com={POISON}"}, "extra-access-tokens is a secret"),
        ({"access-tokens": [f"github.com={POISON}"]}, "access-tokens is a secret"),
        ({"substituters": f"https://me:{POISON}@cache.example"}, "substituters has a login in an address"),
        ({"substituters": f"https://a.example https://{POISON}@cache.example"}, "has a login in an address"),
        ({"builders": f"ssh://me:{POISON}@builder.example"}, "has a login in an address"),
        ({"experimental-features": "nix-command"}, "use extra-experimental-features"),
        ({"store": "/mnt"}, "the operator's own store"),
        ({"eval-store": "/mnt"}, "the operator's own store"),
        ({"--impure": "x"}, "is not the name of a setting"),
        ({"Cores": 1}, "is not the name of a setting"),
        ({"cores": 1.5}, "cores needs one line"),
        ({"cores": ["1"]}, "cores needs one line"),
        ({"system-features": "a\nb"}, "system-features needs one line"),
        ("cores=1", "it is not a table"),
    ],
)
def test_refused_and_no_value_is_shown(tmp_path: Path, given: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_nix_options(given)
    table = (
        f"{{ {', '.join(f'{_quoted(key)} = {_toml(value)}' for key, value in given.items())} }}"
        if isinstance(given, dict)
        else f'"{given}"'
    )
    path = tmp_path / "hosts.toml"
    path.write_text(f"[cottage]\nnix_options = {table}\n")
    with pytest.raises(ConfigError) as error:
        load_inventory(path)
    assert "[cottage] nix_options" in str(error.value)
    assert POISON not in str(error.value)
    assert POISON not in error.value.hint


def _quoted(key: str) -> str:
    return f'"{key}"'


def _toml(value: object) -> str:
    return repr(value).replace("'", '"')


def test_defaults_and_hosts_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text("[defaults]\nnix_options = { cores = 2, fallback = true }\n[cottage]\nnix_options.cores = 1\n")
    assert load_inventory(path).host("cottage").nix_options == {"cores": "1", "fallback": "true"}


@pytest.mark.usefixtures("server")
def test_all_of_nix_that_works_gets_them(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text(path.read_text() + "nix_options = { cores = 2, fallback = true }\n")
    run_flow("install", monkeypatch)
    told = {"cores": "2", "fallback": "true"}
    assert desk.options["flake"] == [told]
    assert desk.options["eval"] == [told]
    assert told in desk.options["build"]  # the others only protect what is there from garbage collection
    assert desk.options["copy"] == [told] * 2
