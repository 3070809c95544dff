"""Coming back from kexec: what counts as the installer, and what is said while nothing comes."""

import json

import pytest

from holdfast.base.errors import DeadlinePassed, NotTrusted, UnexpectedState
from holdfast.inventory.host import Host
from holdfast.plan.results import Returned, Started
from tasks import reconnect as file
from tests.log import Remembered
from tests.unit.cases import built, facts, host, plan, status
from tests.unit.desk import Desk
from tests.unit.programs import INSTALLER_MARK
from tests.unit.server import body
from tests.unit.target import RUN, FakeMachine

pytestmark = pytest.mark.usefixtures("desk", "server")
LAN = "192.168.1.100"
ORIGIN = facts("debian-12")
STARTED = Started(kexec_at=4_000_000_000.0, origin_boot_id=ORIGIN.boot_id)


def reconnect(of: Host, started: Started = STARTED) -> Returned:
    done = body(file.reconnect)(of, plan(ORIGIN, of, run_id=RUN), built(), started)
    assert isinstance(done, Returned)
    return done


def test_deadline_says_all_and_what_happens_by_itself(machine: FakeMachine, desk: Desk) -> None:
    machine.is_in("installer")
    machine.ways = {LAN: None}
    desk.status = ""
    with pytest.raises(DeadlinePassed) as info:
        reconnect(host(local=LAN))
    message = info.value.message
    assert "\n" not in message
    assert "for cottage to return from kexec; last seen: cottage: no connection to cottage:22" in message
    assert "the operator's tailscaled does not answer." in message
    assert f"At {LAN}: the right host key answers, the installer runs there" in message
    assert "The dead-man reboots it into its untouched origin at about 2096-10-02" in message
    assert f"Log in at {LAN}" in info.value.hint
    assert "go_on_over_local = true" in info.value.hint
    assert machine.story == []


def test_hint_of_an_operator_off_its_tailnet(machine: FakeMachine, desk: Desk) -> None:
    machine.up = False
    desk.status = ""
    with pytest.raises(DeadlinePassed) as info:
        reconnect(host(local=LAN))
    assert "tailscale status" in info.value.hint
    desk.status = None
    with pytest.raises(DeadlinePassed) as info:
        reconnect(host(local=LAN))
    assert "cannot-connect-after-kexec" in info.value.hint


def test_dead_man_that_fired_already(machine: FakeMachine) -> None:
    machine.up = False
    with pytest.raises(DeadlinePassed, match="was to reboot it into its untouched origin"):
        reconnect(host(), Started(kexec_at=1000.0, origin_boot_id="x"))


@pytest.mark.usefixtures("machine")
def test_origin_that_never_left() -> None:
    with pytest.raises(DeadlinePassed, match="installer never started") as info:
        reconnect(host())
    assert "dead-man reboots" not in info.value.message
    assert info.value.hint == "Retry the run: it starts the installer again."


@pytest.mark.usefixtures("machine")
def test_origin_that_came_back_needs_a_new_run() -> None:
    with pytest.raises(UnexpectedState, match="came back in its origin") as info:
        reconnect(host(), Started(kexec_at=1000.0, origin_boot_id="before"))
    assert "retry the run: it starts the installer again" in info.value.hint


def test_over_the_tailnet(machine: FakeMachine, log: Remembered) -> None:
    machine.is_in("installer")
    done = reconnect(host())
    assert (done.over_local, done.path, machine.story) == (False, "relay", ["dead-man fed"])
    assert any("if nobody reaches the installer, its dead-man reboots cottage" in line for line in log.said)
    assert any("fires at about" in line and "unless partition disarms it" in line for line in log.said)
    assert done.dead_man_at > 1_700_000_000


def test_over_local_after_the_tailnet_had_its_time(machine: FakeMachine, log: Remembered) -> None:
    machine.is_in("installer", tailscale_status=status(state="Starting"))
    machine.ways = {LAN: None}
    done = reconnect(host(local=LAN, go_on_over_local=True))
    assert (done.over_local, done.path, done.identity) == (True, "unknown", None)
    assert machine.story == ["dead-man fed"]
    assert machine.clock.passed_s > file.TAILNET_FIRST_S
    assert f"the installer answers at {LAN}, not over the tailnet yet" in log.said
    assert any("could NOT be proved" in line for line in log.warned)


def test_over_local_another_node_is_refused(machine: FakeMachine) -> None:
    machine.is_in("installer", tailscale_status=status(PublicKey="nodekey:" + "f" * 64))
    machine.ways = {LAN: None}
    with pytest.raises(NotTrusted, match="another node"):
        reconnect(host(local=LAN, go_on_over_local=True))
    assert machine.story == []


def test_over_local_never_without_the_state_that_is_to_be_kept(machine: FakeMachine) -> None:
    machine.is_in("installer", tailscale_status=status(state="Starting"))
    mark = json.loads(machine.files[INSTALLER_MARK]) | {"state": "refused: it is damaged"}
    machine.files[INSTALLER_MARK] = json.dumps(mark).encode()
    machine.ways = {LAN: None}
    with pytest.raises(DeadlinePassed, match=r"without the Tailscale state .*refused: it is damaged"):
        reconnect(host(local=LAN, go_on_over_local=True))
    assert machine.story == []


def test_while_the_origin_still_answers_it_is_asked_one_short_question(machine: FakeMachine) -> None:
    machine.clock.at(30, lambda: machine.leave_for("installer"))
    machine.hand_over(RUN, 900, stock=False)
    done = reconnect(host(), Started(kexec_at=machine.clock.now(), origin_boot_id=ORIGIN.boot_id))
    asked = [(sent.system, command.name) for sent, command in zip(machine.sent, machine.commands, strict=True)]
    assert set(asked[: asked.index(("installer", "who.sh"))]) == {("origin", "who.sh")}
    assert [name for system, name in asked if system == "installer"].count("facts.sh") == 1
    assert done.away_s


def test_node_that_is_late_is_asked_for_before_the_full_facts(machine: FakeMachine) -> None:
    machine.is_in("installer", tailscale_status=status(state="Starting"))
    machine.clock.at(40, lambda: machine.shows("installer", tailscale_status=machine_status))
    machine_status = status()
    reconnect(host())
    names = [command.name for command in machine.commands]
    assert names.count("facts.sh") == 2
    assert names.count("who.sh") > 10
    assert machine.asked.count("100.64.0.1") == 1  # the diagnosis asks elsewhere
