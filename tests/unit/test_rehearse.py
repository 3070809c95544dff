"""The rehearsal: where it starts, when it turns back, what counts as home, and how long an install trusts it."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun, StateType

from holdfast.base.errors import (
    ConfigError,
    DeadlinePassed,
    HoldfastError,
    NotTrusted,
    TargetRefused,
    UnexpectedState,
)
from holdfast.facts.facts import Facts
from holdfast.inventory.host import DAY_S, Host
from holdfast.inventory.loading import load_inventory
from holdfast.plan.rehearsal import (
    NODE_LABEL,
    Rehearsal,
    rehearsal_host,
    require_rehearsal,
    require_start,
    require_untouched,
)
from holdfast.plan.results import Rehearsed, Returned, Started, WentBack
from tasks import go_back, rehearsed
from tests.unit.cases import built, facts, host, plan, status
from tests.unit.programs import MOUNTED
from tests.unit.server import Server, body
from tests.unit.target import HOST_KEY, RUN, FakeMachine

BUILT = built(toplevel="/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-cottage-25.11")
BEFORE = facts("debian-12")
PLAN = plan(BEFORE, run_id=RUN)
INSTALLER = facts("installer")
HOME = "0d2b3c4d-3333-4222-8333-444455556666"
OTHER = "0d2b3c4d-ffff-4bbb-8ccc-444455556666"
RETURNED = Returned(boot_id=INSTALLER.boot_id, identity=INSTALLER.identity, away_s=20.0)
MARK = json.dumps({"run_id": "run-9", "plan_digest": "00"})


def other_mark(run_id: str | None) -> str:
    return json.dumps({"image_id": "lab-1", "run_id": run_id, "state": "restored"})


# Where it starts, and how it goes.


def test_rehearsal_goes_over_the_tailnet_and_no_other_way() -> None:
    chosen = host(local="192.168.1.5", go_on_over_local=True, target="100.64.0.1")
    assert rehearsal_host(chosen) == chosen.model_copy(update={"go_on_over_local": False})
    with pytest.raises(ConfigError, match=r'standard way, which cannot be rehearsed.*Set way = "tailscale"'):
        rehearsal_host(host(way="standard"))


@pytest.mark.parametrize("seen", [BEFORE, INSTALLER, facts("nixos", booted_system=BUILT.toplevel + "-older\n")])
def test_starts_from_an_origin_or_its_own_installer(seen: Facts) -> None:
    require_start("cottage", "run-1", seen, BUILT.toplevel)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (
            facts("installer", installer_mark=other_mark("run-9")),
            "started by run-9; nothing was changed.*install/cottage",
        ),
        (facts("installer", installer_mark=other_mark(None)), "started by no run"),
        (facts("installer", installer_mark=""), "without Holdfast's mark"),
        (facts("nixos"), "runs the installed system.*installed already"),
    ],
)
def test_starts_from_nothing_else(seen: Facts, said: str) -> None:
    with pytest.raises(TargetRefused, match=said):
        require_start("cottage", "run-1", seen, BUILT.toplevel)


# Whether the installer may be left.


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"installer_mark": other_mark("run-9")}, "started by run-9, not by this run"),
        ({"installer_mark": ""}, "started by an unknown run"),
        ({"partition_mark": MARK}, "run run-9 formatted its disks"),
        ({"mountinfo": MOUNTED}, "a disk is in use.*/dev/vda at /mnt"),
        (
            {"units": "holdfast-partition-12345678.service loaded active running x\n"},
            "holdfast-partition-12345678.*runs",
        ),
        ({"units": "holdfast-install-12345678.service loaded active exited x\n"}, "holdfast-install-12345678.*runs"),
    ],
)
def test_installer_that_somebody_uses_is_not_left(changed: dict[str, str], said: str) -> None:
    require_untouched("cottage", "run-1", INSTALLER)
    with pytest.raises(UnexpectedState, match=said):
        require_untouched("cottage", "run-1", facts("installer", **changed))


# The way back.


@pytest.fixture
def back(machine: FakeMachine) -> FakeMachine:
    """The machine in the installer of this run."""
    machine.is_in("installer")
    machine.toplevel = BUILT.toplevel
    return machine


def goes_back(returned: Returned = RETURNED, left: str = BEFORE.boot_id) -> WentBack:
    done = body(go_back.go_back)(host(), PLAN, BUILT, Started(origin_boot_id=left), returned)
    assert isinstance(done, WentBack)
    return done


def reboots(machine: FakeMachine) -> int:
    asked = machine.told("leave-installer.sh")
    assert asked == [["/mnt", "reboot"]] * len(asked)
    return len(asked)


@pytest.mark.usefixtures("desk")
def test_goes_back_once_and_proves_it(back: FakeMachine, server: Server) -> None:
    back.is_away(40)
    back.shows("origin", tailscale_status=status("debian-12", state="Starting"))
    back.clock.at(150, lambda: back.shows("origin", tailscale_status=status("debian-12")))
    result = goes_back()
    assert back.story == ["locked", "told to reboot", "origin boots"]
    assert reboots(back) == 1
    assert (result.boot_id, result.identity, result.host_key, result.path) == (
        back.boot_id,
        BEFORE.identity,
        HOST_KEY,
        "relay",
    )
    assert result.away_s is not None
    assert 22 <= result.away_s < 150
    assert BEFORE.identity is not None
    assert server.labels == {NODE_LABEL: BEFORE.identity.node_id}


@pytest.mark.usefixtures("desk", "server")
def test_origin_that_is_back_already_is_enough(back: FakeMachine) -> None:
    back.is_in("origin", boot_id=HOME)
    assert goes_back().away_s is None
    assert reboots(back) == 0


@pytest.mark.usefixtures("desk", "server")
def test_boot_that_kexec_left_is_not_home_although_the_plan_has_another(back: FakeMachine) -> None:
    """After the reboot of `rehearse --origin`, or the dead-man's, the origin was left on a boot that no plan knows."""
    back.is_in("origin", boot_id=HOME)
    with pytest.raises(UnexpectedState, match="on the boot that it was left on"):
        goes_back(left=HOME)
    assert goes_back(left=OTHER).boot_id == HOME


@pytest.mark.usefixtures("desk", "server")
def test_reboot_whose_answer_was_lost_is_asked_again_only_of_the_installer(back: FakeMachine) -> None:
    back.before("leave-installer.sh", back.cut)
    assert goes_back().away_s is not None
    assert reboots(back) == 2
    back.is_in("installer")
    back.after("leave-installer.sh", back.reset)
    assert goes_back().away_s is not None
    assert reboots(back) == 3


@pytest.mark.usefixtures("desk")
def test_installer_in_use_is_not_rebooted(back: FakeMachine, server: Server) -> None:
    for changed in ({"partition_mark": MARK}, {"mountinfo": MOUNTED}, {"installer_mark": other_mark("run-9")}):
        back.changed.clear()
        back.is_in("installer", **changed)
        with pytest.raises(UnexpectedState, match="is not rebooted"):
            goes_back()
    back.changed.clear()
    back.is_in("installer")
    back.locked_by = OTHER
    server.over[OTHER] = False
    with pytest.raises(TargetRefused, match=f"another run works on cottage: run {OTHER}"):
        goes_back()
    assert (back.story, reboots(back)) == ([], 0)


@pytest.mark.parametrize(
    ("comes", "shows", "error", "said"),
    [
        ("origin", {"boot_id": BEFORE.boot_id}, UnexpectedState, "on the boot that it was left on"),
        ("final", {}, UnexpectedState, "came back as the installed system"),
        ("installer", {}, UnexpectedState, "came back as the installer lab-1"),
        (
            "origin",
            {"tailscale_status": status("debian-12", PublicKey="nodekey:" + "cd" * 32)},
            NotTrusted,
            "another node now",
        ),
    ],
)
@pytest.mark.usefixtures("desk")
def test_what_is_not_home(
    back: FakeMachine, server: Server, comes: str, shows: dict[str, str], error: type[HoldfastError], said: str
) -> None:
    back.instead["origin"] = comes
    back.shows(comes, **shows)
    with pytest.raises(error, match=said):
        goes_back()
    assert server.labels == {}


@pytest.mark.usefixtures("desk", "server")
def test_another_host_key_is_not_home(back: FakeMachine) -> None:
    back.after("leave-installer.sh", lambda: setattr(back, "host_key", "ssh-ed25519 BBBB"))
    with pytest.raises(NotTrusted, match="SSH host key ssh-ed25519 BBBB, and had ssh-ed25519 AAAA"):
        goes_back()


@pytest.mark.usefixtures("desk", "server")
def test_machine_that_stays_away(back: FakeMachine) -> None:
    back.instead["origin"] = ""
    with pytest.raises(DeadlinePassed, match=r"return to its origin; last seen: .*no answer.*Its disks are untouched"):
        goes_back()
    back.is_in("installer")
    back.up = False
    with pytest.raises(DeadlinePassed, match=r"could not be reached; its dead-man reboots it .* at about"):
        goes_back(RETURNED.model_copy(update={"dead_man_at": 1_800_000_000.0}))


# What an install demands.

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def demanding(**more: object) -> Host:
    return host(rehearsal_max_age_days=7, **more)


def ago(days: float, node_id: str = "n1", run_id: str = "r") -> Rehearsal:
    return Rehearsal(run_id, NOW - timedelta(days=days), node_id)


def test_young_rehearsal_of_this_machine_is_enough() -> None:
    assert require_rehearsal(demanding(), "n1", [ago(1, "n2"), ago(6.99, run_id="this")], NOW).run_id == "this"


def test_no_more_is_read_than_needed() -> None:
    endless = (ago(days) for days in itertools.count(8))
    with pytest.raises(TargetRefused, match=r"the last one ended 8\.0 days ago"):
        require_rehearsal(demanding(), "n1", endless, NOW)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "none is known to the Prefect server"),
        ([ago(12.34)], r"the last one ended 12\.3 days ago"),
        ([ago(7.01), ago(8)], r"the last one ended 7\.0 days ago"),
        ([ago(1.5, "n2"), ago(3, "n3")], r"the last one, 1\.5 days ago, was of another node \(n2\)"),
        ([ago(1.5, "")], r"the last one, 1\.5 days ago, was of another node \(unknown\)"),
        ([ago(1, "n2"), ago(12.34)], r"the last one ended 12\.3 days ago"),
    ],
)
def test_refusal_says_what_was_found_and_what_to_start(found: list[Rehearsal], said: str) -> None:
    with pytest.raises(TargetRefused, match=rf"not older than 7 days, and {said}; nothing was changed") as error:
        require_rehearsal(demanding(), "n1", found, NOW)
    assert "prefect deployment run rehearse/cottage" in error.value.hint


def test_machine_without_a_node_id_is_not_taken_for_a_run_without_one() -> None:
    with pytest.raises(TargetRefused):
        require_rehearsal(demanding(), "", [ago(1, "")], NOW)


def test_standard_way_cannot_meet_the_demand() -> None:
    with pytest.raises(ConfigError, match="standard way cannot be rehearsed"):
        require_rehearsal(demanding(way="standard"), "n1", [ago(1)], NOW)


# A recorded answer to POST /flow_runs/filter of Prefect 3.8.8: cottage, shed, cottage; newest first.
RECORDED = json.loads((Path(__file__).parent / "prefect_rehearsals.json").read_text())
NEWEST = datetime(2026, 11, 23, 7, 35, 9, 896858, tzinfo=UTC)


@pytest.fixture
def recorded(server: Server) -> Server:
    """A server that knows the recorded runs."""
    server.runs = [FlowRun.model_validate(run) for run in RECORDED]
    return server


@pytest.mark.parametrize("page", [1, 2, 3, 50])
def test_rehearsals_of_a_host_are_found_over_all_pages(
    recorded: Server, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(rehearsed, "PAGE", page)
    server: Any = recorded
    found = list(rehearsed.rehearsals(server, "cottage"))
    assert [one.run_id for one in found] == [RECORDED[0]["id"], RECORDED[2]["id"]]
    assert found[0].ended_at == NEWEST
    assert {one.node_id for one in found} == {"node-of-cottage"}
    assert [one.node_id for one in rehearsed.rehearsals(server, "shed")] == ["node-of-shed"]
    assert list(rehearsed.rehearsals(server, "attic")) == []
    asked = server.asked[0]
    assert asked["flow_filter"].name.any_ == ["rehearse"]
    assert asked["flow_run_filter"].state.type.any_ == [StateType.COMPLETED]
    assert asked["sort"] == "END_TIME_DESC"


def demand(inventory: Host) -> Rehearsed:
    identity = PLAN.origin.identity
    assert identity is not None
    node = identity.model_copy(update={"node_id": "node-of-cottage"})
    made = PLAN.model_copy(update={"origin": PLAN.origin.model_copy(update={"identity": node})})
    done = body(rehearsed.rehearsed)(inventory, made, BUILT)
    assert isinstance(done, Rehearsed)
    return done


def days_later(machine: FakeMachine, days: float) -> None:
    machine.clock.sleep(NEWEST.timestamp() + days * DAY_S - machine.clock.now())


@pytest.mark.usefixtures("recorded")
def test_demand_is_met_by_what_the_server_knows(machine: FakeMachine) -> None:
    days_later(machine, 2)
    result = demand(host(rehearsal_max_age_days=3))
    assert result.run_id == RECORDED[0]["id"]
    assert result.age_days == pytest.approx(2, abs=0.1)


@pytest.mark.usefixtures("recorded")
def test_demand_is_refused_by_what_the_server_knows(machine: FakeMachine) -> None:
    days_later(machine, 8)
    with pytest.raises(TargetRefused, match=r"the last one ended 8\.0 days ago"):
        demand(demanding())


@pytest.mark.parametrize("runs", ["installer", "final"])
def test_install_that_resumes_demands_nothing(machine: FakeMachine, recorded: Server, runs: str) -> None:
    machine.toplevel = BUILT.toplevel
    machine.is_in(runs)
    assert "runs" in demand(demanding(way="standard")).skipped
    assert recorded.asked == []


def test_key_of_the_inventory(tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text("[defaults]\nrehearsal_max_age_days = 7\n[a]\n[b]\nrehearsal_max_age_days = 0.5\n")
    hosts = load_inventory(path).hosts
    assert (hosts["a"].rehearsal_max_age_days, hosts["b"].rehearsal_max_age_days) == (7, 0.5)
    assert host().rehearsal_max_age_days is None
    for wrong in ("0", "-1", "inf", "nan", '"soon"'):
        path.write_text(f"[a]\nrehearsal_max_age_days = {wrong}\n")
        with pytest.raises(ConfigError, match="rehearsal_max_age_days"):
            load_inventory(path)
