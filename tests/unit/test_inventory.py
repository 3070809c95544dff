"""The inventory: what it may say, and the one line that a mistake in it earns."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from holdfast.base.errors import ConfigError
from holdfast.base.settings import PROJECT
from holdfast.inventory.host import Approve, Host, Way
from holdfast.inventory.loading import Inventory, chosen_host, load_inventory, meaning_of


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "hosts.toml"


def load(path: Path, text: str) -> Inventory:
    path.write_text(text)
    return load_inventory(path)


def refusal(path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(path, text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000
    return str(error.value)


def test_example_is_valid_and_says_the_defaults() -> None:
    path = PROJECT / "deployments" / "hosts.toml"
    cottage = load_inventory(path).host("cottage")
    assert cottage.flake == str(PROJECT)
    assert cottage.kexec == f"{PROJECT}#kexec-tailscale"
    assert cottage.disks[0].serial == "COTTAGE0001"
    # Its comments promise these defaults.
    said = path.read_text()
    for key, value in cottage.deadlines.model_dump().items():
        assert f"{key} = {value:.0f}" in said
    assert (cottage.allow, cottage.approve) == ((), Approve.UNPINNED)
    assert "allow = []" in said
    for key, value in cottage.keep.model_dump().items():
        assert f"{key} = {str(value).lower()}" in said


def uncommented(example: str) -> str:
    """Return the example with each commented-out setting switched on."""
    return re.sub(r"(?m)^( *)# +(?=\w+ = |[\[{\]])", r"\1", example)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a field's type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def keys_of(model: type[BaseModel]) -> set[str]:
    return {field.alias or key for key, field in model.model_fields.items()}


def tables_of_host() -> dict[str, type[BaseModel]]:
    return {key: model for key, field in Host.model_fields.items() for model in models_in(field.annotation)}


def test_reference_names_every_key() -> None:
    reference = (PROJECT / "docs" / "reference.md").read_text()
    models: list[type[BaseModel]] = [Host, *tables_of_host().values()]
    for key in {key for model in models for key in keys_of(model)} - {"name"}:
        assert re.search(rf"[`, ]{key}[`, ]", reference), key


def test_every_key_has_a_meaning_that_errors_show() -> None:
    models: list[type[BaseModel]] = [Host, *tables_of_host().values()]
    for model in models:
        for key in keys_of(model):
            assert meaning_of(model, key), (model.__name__, key)


def test_example_shows_every_key(write: Path) -> None:
    text = uncommented((PROJECT / "deployments" / "hosts.toml").read_text())
    tables = tomllib.loads(text)
    shown = tables["defaults"] | tables["cottage"]
    assert shown.keys() == keys_of(Host) - {"name"}
    nested = tables_of_host()
    assert {"deadlines", "disks", "files"} < nested.keys()
    for key, model in nested.items():
        entries = shown[key] if isinstance(shown[key], list) else [shown[key]]
        assert {name for entry in entries for name in entry} == keys_of(model), key
    # And it says the defaults, where there are any.
    host = load(write, text).host("cottage")
    for key, field in Host.model_fields.items():
        if key not in ("flake", "kexec", "target", "attribute", "name") and field.default not in (None, (), {}):
            assert getattr(host, key) == field.default, key


def test_name_gives_target_and_attribute(write: Path) -> None:
    host = load(write, "[cottage]\n").host("cottage")
    assert (host.target, host.attribute, host.user, host.port) == ("cottage", "cottage", "root", 22)
    assert host.flake == str(write.parent)
    assert host.way is Way.TAILSCALE
    assert "user" not in host.model_fields_set  # so that the ssh config may say it


@pytest.mark.parametrize("name", ["web.example.org", "web.example.org.", "a..b", "_a.b-c", "9.x"])
def test_attribute_may_have_dots(write: Path, name: str) -> None:
    host = load(write, f'[web]\nattribute = "{name}"\n').host("web")
    assert (host.name, host.attribute, host.target) == ("web", name, "web")


def test_defaults_are_merged_key_by_key(write: Path) -> None:
    text = """
[defaults]
user = "admin"
elevation = "sudo"
[defaults.deadlines]
connect_s = 5
copy_s = 60
[a]
user = "root"
[a.deadlines]
copy_s = 70
[b]
"""
    hosts = load(write, text).hosts
    assert (hosts["a"].user, hosts["a"].elevation) == ("root", "sudo")
    assert (hosts["a"].deadlines.connect_s, hosts["a"].deadlines.copy_s) == (5, 70)
    assert (hosts["b"].user, hosts["b"].deadlines.copy_s) == ("admin", 60)
    assert list(hosts) == ["a", "b"]


def test_relative_paths_start_at_the_inventory(write: Path) -> None:
    host = load(
        write, '[a]\nidentity_file = "keys/a"\nextra_files = "/abs"\nflake = "path:./f"\nkexec = "result"\n'
    ).host("a")
    assert host.identity_file == write.parent / "keys/a"
    assert host.extra_files == Path("/abs")
    assert host.flake == f"path:{write.parent}/f"
    assert host.kexec == f"{write.parent}/result"


def test_unknown_host_names_the_known_ones(write: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(write, "[cottage]\n[barn]\n").host("cotage")
    assert "'cotage'" in error.value.message
    assert "cottage, barn" in error.value.message
    assert "Did you mean 'cottage'" in error.value.message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            '[cottage]\ntraget = "x"\n',
            ["[cottage]", "'traget'", "target, flake, attribute"[:6], "Did you mean 'target'"],
        ),
        ("[cottage.deadlines]\nconect_s = 3\n", ["'deadlines.conect_s'", "connect_s", "Did you mean 'connect_s'"]),
        ("[cottage]\nkeep.machineid = true\n", ["'keep.machineid'", "machine_id, tailscale_state"]),
        ("[cottage]\ndisks = [{ size = 3 }]\n", ["'disks.0.size'", "by_id, serial, size_bytes"]),
        ("[cottage]\ndisks = [{ size_bytes = 3 }]\n", ["disks.0", "serial or by_id"]),
        ("[cottage]\nport = 70000\n", ["port is 70000", "65535", "TCP port"]),
        ('[cottage]\nport = "ssh"\n', ["port is 'ssh'", "integer"]),
        ('[cottage]\nuser = "-oProxyCommand=x"\n', ["user is"]),
        ('[cottage]\ntarget = "-x"\n', ["target is '-x'"]),
        ('[cottage]\ntarget = "a\\nb"\n', ["target is 'a\\nb'"]),
        ('[cottage]\nflake = "--impure"\n', ["flake is"]),
        ('[cottage]\nattribute = "a\\"; import x"\n', ["attribute is"]),
        ('[cottage]\nproxy = "http://x"\n', ["proxy is 'http://x'", "tailscale-nc"]),
        ('[cottage]\nhost_key = "AAAA"\n', ["host_key is 'AAAA'", "TYPE BASE64"]),
        ('[cottage]\nway = "slow"\n', ["way is 'slow'", "'tailscale' or 'standard'"]),
        ('[cottage]\napprove = "pinned"\n', ["approve is 'pinned'", "'always', 'unpinned' or 'never'", "'unpinned'?"]),
        ('[cottage]\napproval = "always"\n', ["'approval'", "Did you mean 'approve'"]),
        ("[cottage.deadlines]\ncopy_s = 0\n", ["deadlines.copy_s is 0", "greater than 0"]),
        ("[cottage.deadlines]\ncopy_s = inf\n", ["deadlines.copy_s is inf"]),
        (
            '[cottage]\nallow = ["no-ssh"]\n',
            ["allow.0 is 'no-ssh'", "'no-authorized-key'", "that the user overrides", "Did you mean 'no-sshd'"],
        ),
        (
            '[cottage]\nkexec = "https://x.example/i.tar"\n',
            ["kexec is", "checksum", "nix store prefetch-file https://x"],
        ),
        ('[cottage]\nschedule = "daily"\n', ["schedule is 'daily'", "cron"]),
        ("[Cottage]\n", ["'Cottage'", "lower-case"]),
        ('["../x"]\n', ["'../x'"]),
        ('["a\\nb"]\n', ["'a\\nb'"]),
        ('[cottage]\nname = "x"\n', ["[cottage]", "name"]),
        ('[cottage]\nstore_paths = ["/nix/store/x"]\n', ["'store_paths'", "name the Nix file that they are built"]),
        ("cottage = 3\n", ["'cottage'", "outside any table"]),
        ("[defaults]\n", ["names no host"]),
        ("[cottage\n", ["not valid TOML", "line 1"]),
        ('[defaults]\nusr = "x"\n[a]\n', ["[defaults]", "'usr'", "Did you mean 'user'"]),
        ("[cottage.deadlines]\ndead_man_s = 1\n", ["dead_man_s is 1", "60", "Hint: dead_man_s: until the installer"]),
        ("[cottage.keep]\nmachine_id = 3\n", ["keep.machine_id is 3", "Hint: machine_id: /etc/machine-id"]),
        ('[cottage]\ndisks = "x"\n', ["disks is 'x': it should be a valid list", "Hint: disks: the disks that may"]),
        ('[cottage]\nstandby = "yes"\n', ["standby is 'yes'", "boolean"]),
        ("[cottage.keep]\ntailscale_state = 1\n", ["keep.tailscale_state is 1", "boolean"]),
        ('[web.example]\ntarget = "x"\n', ["[web]", "'example'", "attribute ="]),
        ("[cottage]\ndisks = [3]\n", ["disks.0 is 3: it should be a table"]),
        ("[cottage]\ndeadlines = 3\n", ["deadlines is 3: it should be a table"]),
        ("[cottage.hardware_report]\nbackend = 'nixos-facter'\n", ["hardware_report.file", "it is missing"]),
        ("[cottage]\nschedule = {}\n", ["schedule.cron", "it is missing"]),
        ("[cottage]\ngo_on_over_local = true\n", ["is true: it needs an address in local"]),
        (
            '[cottage]\nhardware_report = { backend = "facter", file = "a.json" }\n',
            ["hardware_report.backend is 'facter'", "Hint: backend: the program", "Did you mean 'nixos-facter'"],
        ),
        (
            '[cottage]\nhardware_report = { backend = "nixos-facter", file = "a.nix" }\n',
            ["hardware_report", "a file of nixos-facter ends in .json"],
        ),
        (
            '[cottage]\nhardware_report = { backend = "nixos-facter", file = "../a.json" }\n',
            ["hardware_report.file is '../a.json': it needs a path inside the flake", "Hint: file: its place below"],
        ),
        (
            '[cottage]\nhardware_report = { backend = "nixos-facter", file = "/a.json" }\n',
            ["it needs a path inside the flake"],
        ),
        (
            '[defaults]\nhardware_report = { backend = "nixos-facter", file = "a.json" }\n[a]\n',
            ["[defaults] has the key hardware_report", "Put it under each host"],
        ),
    ],
)
def test_mistake_is_named_in_one_line(write: Path, text: str, parts: list[str]) -> None:
    line = refusal(write, text)
    for part in [*parts, str(write)]:
        assert part in line
    for word in ("Value error", "should match pattern", "Input should", "tuple"):
        assert word not in line


def test_missing_inventory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no inventory .*absent.toml.*HOLDFAST_INVENTORY"):
        load_inventory(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_inventory(tmp_path)


def test_what_a_run_is_told_wins(write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(write, '[cottage]\ntarget = "a.example"\nport = 2222\nextra_files = "x"\n[cottage.keep]\nmachine_id = true\n')
    plain = chosen_host(write, "cottage")
    assert plain.target == "a.example"
    monkeypatch.chdir(write.parent)
    told = chosen_host(write, "cottage", target="192.0.2.7", image="./result", way="tailscale")
    assert (told.target, told.port, told.kexec) == ("192.0.2.7", 2222, f"{write.parent}/result")
    assert told.keep == plain.keep
    assert told.extra_files == plain.extra_files
    with pytest.raises(ConfigError, match=r"run's parameters.*target is '-x'"):
        chosen_host(write, "cottage", target="-x")


def test_standard_way_takes_the_stock_image(write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(write, '[cottage]\nkexec = "/ours.tar.gz"\napprove = "always"\n')
    monkeypatch.setenv("HOLDFAST_STANDARD_IMAGE", "/stock.tar.gz")
    standard = chosen_host(write, "cottage", way="standard")
    assert (standard.way, standard.kexec, standard.approve) == (Way.STANDARD, "/stock.tar.gz", Approve.ALWAYS)
    assert chosen_host(write, "cottage", way="standard", image="/x.tar").kexec == "/x.tar"
    monkeypatch.setenv("HOLDFAST_STANDARD_IMAGE", "https://x.example/i.tar")
    with pytest.raises(ConfigError, match="checksum"):
        chosen_host(write, "cottage", way="standard")


def test_inventory_may_choose_the_standard_way_and_its_image(write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(write, '[cottage]\nway = "standard"\n[barn]\nway = "standard"\nkexec = "/own.tar.gz"\n')
    monkeypatch.setenv("HOLDFAST_STANDARD_IMAGE", "/stock.tar.gz")
    for way in (None, "standard"):
        assert chosen_host(write, "cottage", way=way).kexec == "/stock.tar.gz"
        assert chosen_host(write, "barn", way=way).kexec == "/own.tar.gz"
    assert chosen_host(write, "cottage", way="tailscale", image="/ours.tar").kexec == "/ours.tar"


def test_host_survives_json(write: Path) -> None:
    host = load(
        write, '[cottage]\nidentity_file = "k"\ndisks = [{ by_id = "virtio-X" }]\nproxy = "tailscale-nc"\n'
    ).host("cottage")
    assert type(host).model_validate_json(host.model_dump_json()) == host


@pytest.mark.parametrize(
    ("values", "path", "may"),
    [
        ({}, "/etc/key", False),
        ({"files": [{"path": "/etc/key", "command": ["x"]}]}, "/etc//key", True),
        ({"files": [{"path": "/etc/keys/db.key", "command": ["x"]}]}, "/etc/keys/", True),
        ({"files": [{"path": "/etc/keys/db.key", "command": ["x"]}]}, "/etc/key", False),
        ({"files": [{"path": "/etc/key", "command": ["x"]}]}, "/etc/key/db.key", False),
        ({"extra_files": "/srv/files"}, "/etc/key", True),
    ],
)
def test_what_the_inventory_may_bring(values: dict[str, Any], path: str, may: bool) -> None:
    assert Host.model_validate({"name": "cottage", **values}).may_bring(path) is may
