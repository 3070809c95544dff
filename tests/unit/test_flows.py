"""What Prefect's loader and the deployments need of the code, and the user's start from the shell."""

import importlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint

from deployments import start
from deployments.serve import deployments
from flows.install import install
from flows.rehearse import rehearse
from holdfast.base.errors import ConfigError
from holdfast.base.settings import PROJECT
from holdfast.inventory.loading import load_inventory
from holdfast.plan.until import Until
from tasks.run.phases import phases_of
from tests.unit.prefect_api import PrefectApi, prefect_api
from tests.unit.test_image import whole, write

PHASE_FILES = {phase.name for flow in (install, rehearse) for phase in phases_of(flow)}

INVENTORY = """
[cottage]
target = "100.64.0.2"
"""
REPORT = 'hardware_report = { backend = "nixos-facter", file = "facter.json" }\n'


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hosts.toml"
    path.write_text(INVENTORY)
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(path))
    return path


@pytest.mark.parametrize("name", ["install", "rehearse"])
def test_entrypoint_loads_as_prefect_loads_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(PROJECT)
    flow: Flow[..., Any] = load_flow_from_entrypoint(f"flows/{name}.py:{name}", use_placeholder_flow=False)
    assert flow.name == name
    assert flow.retries == 0


def phases_called(monkeypatch: pytest.MonkeyPatch, inventory: Path, flow: str, **parameters: object) -> list[str]:
    """Run a flow's body for cottage with phases that do nothing, and return which it called, in order."""
    module = importlib.import_module(f"flows.{flow}")
    called: list[str] = []

    def call(name: str) -> SimpleNamespace:
        called.append(name)
        # The plan, of the preflight.
        return SimpleNamespace(left_alone=False, until=None, goes_on_with=lambda host: host)

    for name in PHASE_FILES & {"install_system", *vars(module)} - {flow} | {"install_system"} & vars(module).keys():
        monkeypatch.setattr(module, name, lambda *_given, name=name, **_told: call(name))
    getattr(module, flow).fn.__wrapped__("cottage", **parameters)
    assert inventory.exists()
    return [name.removesuffix("_system") for name in called]


def test_phases_of_an_install(monkeypatch: pytest.MonkeyPatch, inventory: Path) -> None:
    phases = phases_of(install)
    assert phases_called(monkeypatch, inventory, "install") == [phase.name for phase in phases if phase.always]
    asked = ["hardware_known", "finish", "rehearsed", "post_install"]
    assert [phase.name for phase in phases if not phase.always] == asked
    assert [phase.name for phase in phases if not phase.is_task] == ["approve"]
    inventory.write_text(f'{INVENTORY}rehearsal_max_age_days = 7\npost_install = ["true"]\n{REPORT}')
    called = [phase.name for phase in phases if phase.name != "finish"]  # that is for a machine that is left alone
    assert phases_called(monkeypatch, inventory, "install") == called


def test_phases_of_a_rehearsal(monkeypatch: pytest.MonkeyPatch, inventory: Path) -> None:
    phases = phases_of(rehearse)
    assert phases_called(monkeypatch, inventory, "rehearse") == [phase.name for phase in phases if phase.always]
    asked = ["hardware_known", "prove_origin", "hardware_seen"]
    assert [phase.name for phase in phases if not phase.always] == asked
    assert all(phase.is_task for phase in phases)
    inventory.write_text(f"{INVENTORY}{REPORT}")
    assert phases_called(monkeypatch, inventory, "rehearse", origin=True) == [phase.name for phase in phases]
    inventory.write_text(f'{INVENTORY}way = "standard"\n')
    with pytest.raises(ConfigError, match="standard way"):
        phases_called(monkeypatch, inventory, "rehearse")


def test_order_that_keeps_the_machine_and_its_disks() -> None:
    """Swapped lines in a flow's body would still be its phases in order: these must not be swapped."""
    order = [phase.name for phase in phases_of(install)]
    changes = ["kexec", "partition", "install", "trial", "reboot"]
    assert [name for name in order if name in changes] == changes
    before = {"hardware_known", "preflight", "finish", "build", "rehearsed", "preserve", "approve"}
    assert set(order[: order.index("kexec")]) == before
    assert order[0] == "hardware_known", "the flake is locked with the report that it imports"
    assert order.index("build") < order.index("approve"), "only the built system tells what will be wiped"
    assert order.index("reconnect") < order.index("partition"), "only the installer that answers may format"
    assert order.index("restore") < order.index("trial"), "the trial comes up with the restored identity"
    assert order[-2:] == ["verify", "post_install"]
    there_and_back = [phase.name for phase in phases_of(rehearse)]
    assert "partition" not in there_and_back
    assert there_and_back.index("at_origin") < there_and_back.index("kexec")
    first = ["hardware_known", "preflight", "build", "at_origin", "preserve", "prove_origin", "kexec"]
    assert there_and_back[: len(first)] == first, "all that may fail does so before the origin is rebooted"
    assert there_and_back[-1] == "go_back"


def test_every_phase_is_a_file_and_every_file_a_phase() -> None:
    files = {path.stem for path in (PROJECT / "tasks").glob("*.py")} - {"__init__"}
    assert files == PHASE_FILES


def test_plain_folders_never_import_prefect() -> None:
    files = list((PROJECT / "holdfast").rglob("*.py"))
    assert files
    for path in files:
        lines = [line for line in path.read_text().splitlines() if line.lstrip().startswith(("import ", "from "))]
        assert not [line for line in lines if "prefect" in line], path


def test_deployment_of_a_host_has_its_name_a_form_and_a_limit(inventory: Path) -> None:
    inventory.write_text(f'{INVENTORY}schedule = {{ cron = "0 3 * * 6", timezone = "Europe/Helsinki" }}\n')
    made, rehearsal = deployments(load_inventory(inventory).host("cottage"))
    [planned] = made.schedules or []
    assert planned.schedule == CronSchedule(cron="0 3 * * 6", timezone="Europe/Helsinki")
    assert (made.flow_name, rehearsal.flow_name) == ("install", "rehearse")
    assert (made.entrypoint, rehearsal.entrypoint) == ("flows/install.py:install", "flows/rehearse.py:rehearse")
    assert (len(made.schedules or []), len(rehearsal.schedules or [])) == (1, 0)
    assert rehearsal.name == "cottage"
    assert rehearsal.parameters == {"host": "cottage"}
    back = rehearsal._parameter_openapi_schema.properties
    assert set(back) == {"host", "target", "image", "origin"}
    assert (back["origin"]["type"], back["origin"]["default"]) == ("boolean", False)
    assert back["origin"]["description"].startswith("first reboots the machine once from its own system")
    assert made.name == "cottage"
    assert made.parameters == {"host": "cottage"}
    # A server that restarts would end the run; the lock on the target keeps a second one out.
    assert made.concurrency_limit is None
    form = made._parameter_openapi_schema.properties
    assert set(form) == {"host", "target", "image", "way", "reinstall", "until"}
    assert form["reinstall"]["type"] == "boolean"
    assert form["reinstall"]["default"] is False
    assert form["reinstall"]["description"].startswith("DANGER: wipes a machine that is in use")
    assert ["tailscale", "standard"] in [choice.get("enum") for choice in form["way"]["anyOf"]]
    assert list(get_args(Until)) in [choice.get("enum") for choice in form["until"]["anyOf"]]


@pytest.fixture
def prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrefectApi]:
    """Put a Prefect server in place that serves every host."""
    with prefect_api(monkeypatch, tmp_path) as made:
        yield made


@pytest.mark.usefixtures("inventory")
def test_standard_way_says_what_will_be_lost_first(prefect: PrefectApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert start.install("cottage", "192.168.1.100") == 0
    said = capsys.readouterr().err
    assert "loses" in said
    assert "its tailnet, from kexec until the final system runs" in said
    assert "192.168.1.100" in said
    assert "GET /deployments/name/install/cottage" in prefect.seen
    assert prefect.parameters() == {"target": "192.168.1.100", "way": "standard"}
    assert "is given to the final system: the\nsame node, no new login" in said


def test_standard_way_says_that_the_node_is_given_up(
    inventory: Path, prefect: PrefectApi, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory.write_text(f"{INVENTORY}keep.tailscale_state = false\n")
    assert start.install("cottage", "192.168.1.100") == 0
    said = capsys.readouterr().err
    assert "not given to the final system" in said
    assert "no new login" not in said
    assert prefect.created


@pytest.mark.usefixtures("inventory")
def test_standard_way_with_a_stock_image_that_is_none(
    prefect: PrefectApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for image, said in ((str(tmp_path / "none.tar.gz"), "no kexec image"), ("https://x.example/i.tar", "a checksum")):
        monkeypatch.setenv("HOLDFAST_STANDARD_IMAGE", image)
        assert start.install("cottage", "192.168.1.100") == 2
        assert said in capsys.readouterr().err
    assert not prefect.created


@pytest.mark.usefixtures("inventory")
@pytest.mark.parametrize(
    ("kexec", "handed_on"),
    [
        ("./result", "{}/image.tar"),
        ("result", "{}/image.tar"),
        ("folder", "{}/folder"),
        (".#kexec-tailscale", "{}#kexec-tailscale"),
        ("github:o/r#kexec", "github:o/r#kexec"),
        (f"https://x.example/i.tar.gz#sha256={'ab' * 32}", f"https://x.example/i.tar.gz#sha256={'ab' * 32}"),
    ],
)
def test_every_way_to_name_an_image(
    prefect: PrefectApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kexec: str, handed_on: str
) -> None:
    (tmp_path / "folder").mkdir()
    for place in ("folder/image.tar", "image.tar"):
        write(tmp_path / place, whole(), "w")
    (tmp_path / "result").symlink_to("image.tar")
    monkeypatch.chdir(tmp_path)
    assert start.install("cottage", "100.64.0.2", kexec) == 0
    assert prefect.parameters() == {"target": "100.64.0.2", "way": "tailscale", "image": handed_on.format(tmp_path)}


@pytest.mark.usefixtures("inventory")
def test_url_without_a_checksum_starts_nothing(prefect: PrefectApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert start.install("cottage", "cottage", "https://x.example/i.tar.gz") == 2
    assert "nix store prefetch-file https://x.example/i.tar.gz" in capsys.readouterr().err
    assert not prefect.created


@pytest.mark.usefixtures("inventory")
def test_image_that_is_none_starts_nothing(
    prefect: PrefectApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("other"), io.BytesIO())
    assert start.install("cottage", "cottage", str(tmp_path / "x.tar.gz")) == 2
    assert "kexec/run" in capsys.readouterr().err
    assert not prefect.created


@pytest.mark.usefixtures("inventory")
def test_unknown_host_starts_nothing(prefect: PrefectApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert start.install("cotage", "cottage") == 2
    assert "cottage" in capsys.readouterr().err
    assert not prefect.created


def test_no_inventory_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(tmp_path / "none.toml"))
    assert start.install("cottage", "cottage") == 2
    assert "none.toml" in capsys.readouterr().err


@pytest.mark.usefixtures("inventory")
def test_rehearsal_takes_what_is_not_named_from_the_inventory(
    prefect: PrefectApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start.main("rehearse", "cottage") == 0
    assert "GET /deployments/name/rehearse/cottage" in prefect.seen
    assert prefect.parameters() == {}
    prefect.created.clear()
    write(tmp_path / "image.tar", whole(), "w")
    monkeypatch.chdir(tmp_path)
    assert start.main("rehearse", "cottage", "100.64.0.9", "image.tar") == 0
    assert prefect.parameters() == {"target": "100.64.0.9", "image": f"{tmp_path}/image.tar"}


@pytest.mark.usefixtures("inventory")
@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["--origin"], {"origin": True}),
        (["--origin", ""], {"origin": True}),  # as `just` hands it on
        (["100.64.0.9", "--origin"], {"origin": True, "target": "100.64.0.9"}),
        (["", "", "--origin"], {"origin": True}),
        (["", ""], {}),
    ],
)
def test_rehearsal_may_reboot_the_origin_first(prefect: PrefectApi, words: list[str], given: dict[str, object]) -> None:
    assert start.main("rehearse", "cottage", *words) == 0
    assert prefect.parameters() == given


@pytest.mark.usefixtures("inventory")
@pytest.mark.parametrize(
    ("verb", "words", "said"),
    [
        ("rehearse", ["cottage", "--orign"], "rehearse: there is no flag --orign. Hint: just rehearse HOST"),
        ("rehearse", ["cottage", "--origin=yes"], "there is no flag --origin=yes"),
        ("install", ["cottage", "--origin"], "install: there is no flag --origin. Hint: just install HOST"),
        ("reinstall", ["-n", "cottage"], "reinstall: there is no flag -n. Hint: just reinstall HOST"),
        ("rehearse", ["--origin"], "it takes one to three words, and got 0"),
        ("install", ["cottage", "a", "b", "c"], "it takes one to three words, and got 4"),
    ],
)
def test_words_that_a_verb_does_not_know_start_nothing(
    prefect: PrefectApi, capsys: pytest.CaptureFixture[str], verb: str, words: list[str], said: str
) -> None:
    assert start.main(verb, *words) == 2
    assert said in capsys.readouterr().err
    assert not prefect.created


def test_rehearsal_of_the_standard_way_starts_nothing(
    inventory: Path, prefect: PrefectApi, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory.write_text(f'{INVENTORY}way = "standard"\n')
    assert start.main("rehearse", "cottage") == 2
    assert capsys.readouterr().err.startswith("rehearse: cottage goes the standard way")
    assert start.main("rehearse", "cotage") == 2
    assert not prefect.created
