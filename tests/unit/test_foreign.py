"""An installer that somebody else started: refused with a way on, or gone on from, from the plan to the new system."""

import json
from pathlib import Path

import pytest

from deployments import plan as show
from holdfast.base.errors import ConnectionLost, TargetRefused, UnexpectedState
from holdfast.base.settings import settings
from holdfast.inventory.host import Way
from holdfast.inventory.loading import chosen_host
from holdfast.plan.fitness import check_target
from tasks.preflight import preflight
from tests.log import Remembered
from tests.unit.cases import KEXEC_RUN, facts, host, status
from tests.unit.desk import Desk
from tests.unit.programs import CASES, INSTALLER_MARK
from tests.unit.runs import Run
from tests.unit.server import Server, body
from tests.unit.target import RUN, FakeMachine
from tests.unit.test_archive import NODE, STATE, tar_of
from tests.unit.test_image import whole, write

ISO = 'PRETTY_NAME="NixOS 25.11 (Xantusia)"\nID=nixos\nVARIANT_ID=installer\n'
IMAGES = 'NAME=NixOS\nID=nixos\nVARIANT="nixos-images kexec"\nVARIANT_ID="installer"\n'
OTHERS = "ID=debian\nVARIANT_ID=installer\nPRETTY_NAME=rescue\n"
WORD = 'allow = ["foreign-installer"]\n'
NO_LOGIN = json.dumps({"BackendState": "NeedsLogin", "Self": {}})
INVENTORY = """
[cottage]
kexec = "{}"
disks = [{{ serial = "COTTAGE0001" }}]
"""


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hosts.toml"
    path.write_text(INVENTORY.format(write(tmp_path / "image.tar", whole(run=KEXEC_RUN.encode()), "w")))
    monkeypatch.setenv("HOLDFAST_INVENTORY", str(path))
    return path


@pytest.fixture(params=[ISO, IMAGES, OTHERS], ids=["iso", "nixos-images", "another"])
def foreign(machine: FakeMachine, inventory: Path, request: pytest.FixtureRequest) -> FakeMachine:
    """A machine in an installer that has no mark, with a tailnet login."""
    assert inventory
    machine.archive = tar_of(STATE)
    for system, case in CASES.items():
        machine.shows(system, tailscale_status=status(case, PublicKey=NODE.node_key, ID=NODE.node_id))
    machine.is_in("installer", os_release=request.param)
    machine.runs_another()
    return machine


def allowed(inventory: Path) -> None:
    inventory.write_text(inventory.read_text() + WORD)


@pytest.mark.parametrize("release", [ISO, IMAGES, OTHERS])
@pytest.mark.parametrize("login", [True, False])
def test_refused_without_the_word_and_the_hint_has_it(release: str, login: bool) -> None:
    changed = {} if login else {"tailscale_status": NO_LOGIN}
    seen = facts("installer", os_release=release, installer_mark="", **changed)
    with pytest.raises(TargetRefused, match="an installer that is not Holdfast's") as error:
        check_target(seen, host(), None)
    assert '"foreign-installer" in `allow`' in error.value.hint
    assert ("no Tailscale state" in error.value.message) is not login
    check_target(seen, host(allow=["foreign-installer"]), None)
    with pytest.raises(TargetRefused, match="a rehearsal begins in an origin"):
        check_target(seen, host(allow=["foreign-installer"]), None, rehearsal=True)


@pytest.mark.usefixtures("server")
def test_refused_before_anything_is_built_or_changed(
    foreign: FakeMachine, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(monkeypatch, RUN)
    with pytest.raises(TargetRefused, match="an installer that is not Holdfast's"):
        run.start()
    assert list(run.results) == []
    assert foreign.story == []
    assert desk.copies == []


@pytest.mark.usefixtures("desk")
def test_goes_on_with_its_login(
    foreign: FakeMachine, inventory: Path, server: Server, log: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed(inventory)
    Run(monkeypatch, RUN).start()
    assert foreign.story == [
        "state read",
        "locked",
        "copied to /: disko",
        "disks formatted",
        "/mnt/var/lib/holdfast/partition.json written",
        "/run/holdfast/partition.json written",
        "copied to /mnt: nixos-system",
        "carried over: host-keys tailscale-state",
        "nixos-install",
        "carried over: host-keys tailscale-state",
        "told to reboot",
        "final boots",
    ]
    assert (foreign.runs, foreign.disk) == ("final", "final")
    [asked] = server.forms
    assert "in an installer that somebody else started: no kexec" in asked
    assert any("no dead-man" in warned and "neither standby nor trial" in warned for warned in log.warned)
    assert not any("its dead-man" in said for said in log.said)


@pytest.mark.usefixtures("desk", "server")
def test_goes_on_without_a_login(
    foreign: FakeMachine, inventory: Path, log: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed(inventory)
    foreign.shows("installer", tailscale_status=NO_LOGIN)
    Run(monkeypatch, RUN).start()
    assert "state read" not in foreign.story
    assert [told for told in foreign.story if "carried over" in told] == ["carried over: host-keys"] * 2
    assert (foreign.runs, foreign.disk) == ("final", "final")
    assert any("no Tailscale state is kept" in warned for warned in log.warned)


@pytest.mark.usefixtures("desk", "server")
def test_standard_way_from_a_new_machine(
    foreign: FakeMachine, inventory: Path, log: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nixos-anywhere on a machine that was started from a stick: no kexec, no image, no state."""
    foreign.shows("installer", tailscale_status=NO_LOGIN)
    foreign.shows("final", tailscale_status=NO_LOGIN)
    inventory.write_text(inventory.read_text() + 'way = "standard"\n')
    with pytest.raises(TargetRefused, match="runs an installer without Tailscale, and the vault") as error:
        Run(monkeypatch, RUN).start()
    assert 'put "foreign-installer" in `allow` there' in error.value.hint
    assert foreign.story == []
    allowed(inventory)
    Run(monkeypatch, RUN).start()
    assert not any("kexec" in told or "uploaded" in told for told in foreign.story)
    assert (foreign.runs, foreign.disk) == ("final", "final")
    assert any("no Tailscale state is kept" in warned for warned in log.warned)


@pytest.mark.usefixtures("desk", "server")
def test_stick_that_boots_again_is_told(
    foreign: FakeMachine, inventory: Path, log: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed(inventory)
    foreign.instead["final"] = "installer"
    foreign.after("leave-installer.sh", lambda: foreign.hand_over("", 0, stock=True))
    run = Run(monkeypatch, RUN)
    with pytest.raises(Exception, match=r"take its medium \(a USB stick, an ISO\) out of the machine"):
        run.start()
    assert log.warned


@pytest.mark.usefixtures("desk", "server")
def test_machine_that_left_the_installer_needs_a_new_plan(
    foreign: FakeMachine, inventory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed(inventory)
    foreign.before("read-state.sh", foreign.reset)
    run = Run(monkeypatch, RUN)
    with pytest.raises(ConnectionLost):
        run.start()
    with pytest.raises(UnexpectedState, match="has left the installer that the plan goes on from"):
        run.start()
    assert not any("uploaded" in told or "formatted" in told for told in foreign.story)


@pytest.mark.parametrize(("login", "way"), [(True, Way.TAILSCALE), (False, Way.STANDARD)])
@pytest.mark.usefixtures("desk", "server")
def test_plan_decides_by_what_it_sees(
    foreign: FakeMachine, inventory: Path, capsys: pytest.CaptureFixture[str], login: bool, way: Way
) -> None:
    allowed(inventory)
    if not login:
        foreign.shows("installer", tailscale_status=NO_LOGIN)
    plan = body(preflight)(chosen_host(settings().inventory, "cottage"))
    assert (plan.foreign, plan.way, plan.carries_state) == (True, way, login)
    assert {row.seen for row in plan.way_back if row.subject == "standby"} == {
        "none: the installer that runs is not Holdfast's"
    }
    goes_on = plan.goes_on_with(host())
    assert (goes_on.way, goes_on.standby) == (way, False)
    assert show.main("cottage") == 0
    assert "somebody else started: no kexec" in capsys.readouterr().out


@pytest.mark.usefixtures("desk", "server")
def test_own_installer_is_as_before(machine: FakeMachine, inventory: Path) -> None:
    allowed(inventory)
    machine.is_in("installer")
    assert INSTALLER_MARK in machine.files
    plan = body(preflight)(chosen_host(settings().inventory, "cottage"))
    assert not plan.foreign
    assert plan.goes_on_with(host()) == host()
