"""The plan's section *The way back*: from the answer of way-back.sh to the refusal, on the fake machine."""

import contextlib

import pytest

from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.facts.way_back import WayBackFacts, parse_way_back
from holdfast.inventory.host import Way
from holdfast.plan.markdown import to_markdown
from holdfast.plan.plan import Plan
from holdfast.plan.way_back.judging import check_way_back, judge_way_back, warned_of
from holdfast.plan.way_back.row import Verdict, WayBackRow
from tasks.preflight import preflight
from tests.log import Remembered
from tests.unit.cases import facts, host, plan, way_back_answer
from tests.unit.server import body
from tests.unit.target import FakeMachine

STRANDS = WayBackRow(
    subject="tailscaled",
    seen="nothing starts it at boot",
    means="it would be off its tailnet",
    hint="Run `systemctl enable tailscaled` there.",
    verdict=Verdict.STRANDS,
)
UNPROVED = STRANDS.model_copy(update={"subject": "kernel", "seen": "it is new", "verdict": Verdict.UNPROVED})


def test_what_strands_is_refused_in_one_line_with_what_mends_it_and_the_word() -> None:
    with pytest.raises(TargetRefused) as refused:
        check_way_back((UNPROVED, STRANDS), host())
    assert refused.value.message == (
        "cottage would not come back if the install stops: nothing starts it at boot, so it would be off its tailnet."
    )
    assert refused.value.hint == (
        "Run `systemctl enable tailscaled` there. If somebody can reach its console, add"
        ' "origin-may-not-return" to allow in the inventory.'
    )


@pytest.mark.parametrize(
    ("rows", "allowed"),
    [
        ((UNPROVED,), host()),
        ((STRANDS,), host(allow=["origin-may-not-return"])),
        ((STRANDS,), host(way=Way.STANDARD)),
    ],
)
def test_what_is_not_refused_is_warned_of(rows: tuple[WayBackRow, ...], allowed: object) -> None:
    check_way_back(rows, allowed)  # type: ignore[arg-type]
    assert warned_of(rows) == (rows[0].in_one_line(),)


def test_the_plan_shows_the_rows_and_escapes_them() -> None:
    row = STRANDS.model_copy(update={"seen": "a | b <script>"})
    shown = to_markdown(plan(facts("debian-12")).model_copy(update={"way_back": (row,)}))
    assert "## The way back" in shown
    assert "| strands | tailscaled |" in shown
    assert "<script>" not in shown
    assert "The way back" not in to_markdown(plan(facts("debian-12")))


def test_without_an_origin_there_is_nothing_to_say() -> None:
    assert judge_way_back(None, host()) == ()


@pytest.mark.parametrize("output", ["", "{}", way_back_answer()[:-10], "Welcome\n"])
def test_an_answer_that_is_cut_off_is_refused(output: str) -> None:
    with pytest.raises(UnexpectedState):
        parse_way_back(output, "cottage")


def test_an_answer_of_nothing_is_unknown() -> None:
    assert parse_way_back('{\n"format": "1", "end": "1"}', "cottage") == WayBackFacts()


def test_the_firmwares_entries() -> None:
    answer = way_back_answer(boot_current="0001 \n", boot_order="0001 000a zz <b> 00011\n", boot_next="\n")
    efi = parse_way_back(answer, "cottage").efi
    assert (efi.current, efi.next, efi.order) == ("0001", "", ("0001", "000A"))


BY_HAND = "init systemd\ntailscaled 900 2000 sh /user.slice/user-0.slice/session-2.scope\n"


def preflight_of(**changed: bool) -> Plan:
    made = body(preflight)(host(), **changed)
    assert isinstance(made, Plan)
    return made


@pytest.mark.usefixtures("desk", "server", "log")
@pytest.mark.parametrize("rehearsal", [False, True])
def test_preflight_refuses_what_strands_for_an_install_and_for_a_rehearsal(
    machine: FakeMachine, rehearsal: bool
) -> None:
    machine.way_back |= {"processes": BY_HAND, "boot_units": "multi-user.target\nssh.service\n"}
    with pytest.raises(
        TargetRefused, match=r"nothing starts it \(tailscaled.service is not known\), so it would be off"
    ):
        preflight_of(rehearsal=rehearsal)
    assert machine.story == []


@pytest.mark.usefixtures("desk", "server")
def test_preflight_warns_of_what_is_allowed_and_shows_it_in_the_plan(machine: FakeMachine, log: Remembered) -> None:
    machine.way_back |= {"processes": BY_HAND, "boot_units": "multi-user.target\nssh.service\n"}
    made = body(preflight)(host(allow=["origin-may-not-return"]))
    assert isinstance(made, Plan)
    assert made.way_back[0].verdict is Verdict.STRANDS
    assert any("tailscaled was started by hand" in warning for warning in log.warned)


@pytest.mark.usefixtures("desk", "server", "log", "machine")
def test_an_origin_that_comes_back_is_told_so() -> None:
    made = preflight_of()
    assert {row.verdict for row in made.way_back} == {Verdict.FINE}
    assert "| fine | tailscaled | systemd starts it at boot" in to_markdown(made)


@pytest.mark.usefixtures("desk", "server", "log")
@pytest.mark.parametrize("system", ["installer", "trial"])
def test_only_an_origin_is_asked(machine: FakeMachine, system: str) -> None:
    machine.is_in(system)
    with contextlib.suppress(TargetRefused):  # the recorded system has another disk than the plan names
        preflight_of()
    assert machine.told("facts.sh")
    assert not machine.told("way-back.sh")
