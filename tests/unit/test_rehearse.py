"""The rehearsal: where it starts, when it turns back, what counts as home, and how long an install trusts it."""

import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun, StateType

from holdfast.base.errors import (
    ConfigError,
    ConnectionLost,
    DeadlinePassed,
    HoldfastError,
    NotTrusted,
    TargetRefused,
    UnexpectedState,
    Unreachable,
)
from holdfast.base.waiting import wait_for
from holdfast.facts.facts import Facts
from holdfast.inventory.host import Host
from holdfast.inventory.loading import load_inventory
from holdfast.plan.rehearsal import Rehearsal, rehearsal_host, require_rehearsal, require_start, require_untouched
from holdfast.plan.results import Returned, WentBack
from tasks import go_back, rehearsed
from tests.unit.cases import built, facts, host, plan, status

BUILT = built(toplevel="/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-cottage-25.11")
HOST_KEY = "ssh-ed25519 AAAA"
BEFORE = facts("debian-12")
PLAN = plan(BEFORE).model_copy(update={"run_id": "run-1"})
INSTALLER = facts("installer")
HOME = facts("debian-12", boot_id="0d2b3c4d-3333-4222-8333-444455556666\n")
RETURNED = Returned(boot_id=INSTALLER.boot_id, identity=INSTALLER.identity, away_s=20.0)
MARK = json.dumps({"run_id": "run-9", "plan_digest": "00"})
MOUNTED = "27 1 254:2 / /mnt rw - ext4 /dev/vda2 rw\n"


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

Sighting = Facts | HoldfastError


@dataclass
class Machine:
    """What answers at each look, the last one for ever; and what was asked of it."""

    sightings: list[Sighting]
    host_key: str = HOST_KEY
    lost_reboots: int = 0
    reboots: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    held_by: str = ""

    @contextlib.contextmanager
    def reach(self, _host: Host) -> Iterator["Machine"]:
        self.now = self.sightings.pop(0) if len(self.sightings) > 1 else self.sightings[0]
        if isinstance(self.now, HoldfastError):
            raise self.now
        yield self

    def look(self, _target: object) -> Sighting:
        return self.now

    def hold(self, _target: object, _facts: Facts) -> None:
        if self.held_by:
            raise TargetRefused(f"run {self.held_by} works on it")

    def run_script(self, text: str, arguments: list[str], **_more: object) -> None:
        assert isinstance(self.now, Facts)
        self.reboots.append(f"{text.splitlines()[1]}: {arguments} in {self.now.boot_id}")
        if len(self.reboots) <= self.lost_reboots:
            raise ConnectionLost("the link broke")


class NoDiagnosis:
    def __init__(self, *_given: object, **_more: object) -> None:
        pass

    def saw(self, _facts: Facts) -> None:
        pass

    def watch(self, probe: Callable[[], Any]) -> Callable[[], Any]:
        return probe

    def look(self) -> None:
        pass

    def summary(self) -> str:
        return "Nobody knows."

    def hint(self) -> str:
        return ""


GoBack = Callable[..., WentBack]


@pytest.fixture
def back(monkeypatch: pytest.MonkeyPatch) -> GoBack:
    """Run the phase's body against a machine."""
    monkeypatch.setattr(go_back, "wait_for", functools.partial(wait_for, pause_s=0.01))
    monkeypatch.setattr(go_back, "Diagnosis", NoDiagnosis)
    monkeypatch.setattr(go_back, "say", lambda _text: None)
    monkeypatch.setattr(go_back, "path_to", lambda _identity: "relay")
    monkeypatch.setattr(go_back, "lines", lambda: contextlib.nullcontext(SimpleNamespace(add=print)))

    def run(machine: Machine, *, deadline_s: float = 20, returned: Returned = RETURNED) -> WentBack:
        monkeypatch.setattr(go_back, "reach", machine.reach)
        monkeypatch.setattr(go_back, "look", machine.look)
        monkeypatch.setattr(go_back, "hold_target", machine.hold)
        monkeypatch.setattr(go_back, "_label", lambda identity: machine.labels.append(identity.node_id))
        chosen = host(deadlines={"reboot_return_s": deadline_s})
        body: GoBack = go_back.go_back.fn.__wrapped__  # type: ignore[attr-defined]
        return body(chosen, PLAN, BUILT, returned)

    return run


def test_goes_back_once_and_proves_it(back: GoBack) -> None:
    offline = facts("debian-12", boot_id=HOME.boot_id, tailscale_status=status("debian-12", state="Starting"))
    assert offline.identity is None
    machine = Machine([Unreachable("no link"), INSTALLER, INSTALLER, Unreachable("away"), offline, HOME])
    result = back(machine)
    assert machine.reboots == [f"# leave-installer.sh ROOT reboot|kexec: ['/mnt', 'reboot'] in {INSTALLER.boot_id}"]
    assert (result.boot_id, result.identity, result.host_key, result.path) == (
        HOME.boot_id,
        BEFORE.identity,
        HOST_KEY,
        "relay",
    )
    assert result.away_s is not None
    assert 0 <= result.away_s < 20
    assert BEFORE.identity is not None
    assert machine.labels == [BEFORE.identity.node_id]


def test_origin_that_is_back_already_is_enough(back: GoBack) -> None:
    machine = Machine([HOME])
    assert back(machine).away_s is None
    assert machine.reboots == []


def test_reboot_whose_answer_was_lost_is_asked_again_only_of_the_installer(back: GoBack) -> None:
    machine = Machine([INSTALLER, INSTALLER, HOME], lost_reboots=1)
    assert back(machine).away_s is not None
    assert len(machine.reboots) == 2
    gone = Machine([INSTALLER, HOME], lost_reboots=1)
    assert back(gone).away_s is not None
    assert len(gone.reboots) == 1


def test_installer_in_use_is_not_rebooted(back: GoBack) -> None:
    for changed in ({"partition_mark": MARK}, {"mountinfo": MOUNTED}, {"installer_mark": other_mark("run-9")}):
        machine = Machine([facts("installer", **changed), HOME])
        with pytest.raises(UnexpectedState, match="is not rebooted"):
            back(machine)
        assert machine.reboots == []
    held = Machine([INSTALLER, HOME], held_by="run-9")
    with pytest.raises(TargetRefused, match="run-9 works on it"):
        back(held)
    assert held.reboots == []


@pytest.mark.parametrize(
    ("seen", "error", "said"),
    [
        (BEFORE, UnexpectedState, "on the boot that the rehearsal began on"),
        (facts("nixos", booted_system=BUILT.toplevel + "\n"), UnexpectedState, "came back as the installed system"),
        (facts("installer", boot_id=HOME.boot_id), UnexpectedState, "came back as the installer lab-1"),
        (
            facts(
                "debian-12",
                boot_id=HOME.boot_id,
                tailscale_status=status("debian-12", PublicKey="nodekey:" + "cd" * 32),
            ),
            NotTrusted,
            "another node now",
        ),
    ],
)
def test_what_is_not_home(back: GoBack, seen: Facts, error: type[HoldfastError], said: str) -> None:
    machine = Machine([INSTALLER, seen])
    with pytest.raises(error, match=said):
        back(machine)
    assert machine.labels == []


def test_another_host_key_is_not_home(back: GoBack) -> None:
    with pytest.raises(NotTrusted, match="SSH host key ssh-ed25519 BBBB, and had ssh-ed25519 AAAA"):
        back(Machine([INSTALLER, HOME], host_key="ssh-ed25519 BBBB"))


def test_machine_that_stays_away(back: GoBack) -> None:
    machine = Machine([INSTALLER, Unreachable("no route")])
    with pytest.raises(DeadlinePassed, match=r"return to its origin; last seen: no route.*Its disks are untouched"):
        back(machine, deadline_s=0.2)
    never = Machine([Unreachable("no route")])
    with pytest.raises(DeadlinePassed, match=r"not reached to be left; its dead-man reboots it .* at about"):
        back(never, deadline_s=0.1, returned=RETURNED.model_copy(update={"dead_man_at": 1_800_000_000.0}))


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


class Server:
    """A client whose server gives the recorded runs, in pages."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def read_flow_runs(self, *, limit: int, offset: int, **asked: Any) -> list[FlowRun]:
        self.asked.append(asked)
        return [FlowRun.model_validate(run) for run in RECORDED[offset : offset + limit]]


@pytest.mark.parametrize("page", [1, 2, 3, 50])
def test_rehearsals_of_a_host_are_found_over_all_pages(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(rehearsed, "PAGE", page)
    server: Any = Server()
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


def demand(monkeypatch: pytest.MonkeyPatch, seen: Facts, inventory: Host) -> tuple[Any, Server]:
    """Run the phase's body against the recorded answers."""
    server, machine = Server(), Machine([seen])
    monkeypatch.setattr(rehearsed, "get_client", lambda **_more: server)
    monkeypatch.setattr(rehearsed, "reach", machine.reach)
    monkeypatch.setattr(rehearsed, "look", machine.look)
    monkeypatch.setattr(rehearsed, "say", lambda _text: None)
    identity = PLAN.origin.identity
    assert identity is not None
    node = identity.model_copy(update={"node_id": "node-of-cottage"})
    made = PLAN.model_copy(update={"origin": PLAN.origin.model_copy(update={"identity": node})})
    return rehearsed.rehearsed.fn.__wrapped__(inventory, made, BUILT), server  # type: ignore[attr-defined]


def test_demand_is_met_by_what_the_server_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    # As many days as lie between the recording and today, and one.
    days = (datetime.now(UTC) - NEWEST).total_seconds() / 86400
    result, _ = demand(monkeypatch, BEFORE, host(rehearsal_max_age_days=max(days, 0) + 1))
    assert result.run_id == RECORDED[0]["id"]
    assert result.age_days == pytest.approx(days, abs=0.1)


def test_demand_is_refused_by_what_the_server_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsed, "datetime", SimpleNamespace(now=lambda _zone: NEWEST + timedelta(days=8)))
    with pytest.raises(TargetRefused, match=r"the last one ended 8\.0 days ago"):
        demand(monkeypatch, BEFORE, demanding())


@pytest.mark.parametrize("seen", [INSTALLER, facts("nixos", booted_system=BUILT.toplevel + "\n")])
def test_install_that_resumes_demands_nothing(monkeypatch: pytest.MonkeyPatch, seen: Facts) -> None:
    result, server = demand(monkeypatch, seen, demanding(way="standard"))
    assert "runs" in result.skipped
    assert server.asked == []


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
