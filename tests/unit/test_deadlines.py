"""The hint of a deadline that passed names the key of the inventory that raises it, if there is one."""

import pickle

import pytest

from holdfast.base import process
from holdfast.base.deadline import Allowed, Deadline, or_raise
from holdfast.base.errors import DeadlinePassed, NeverCame
from holdfast.base.waiting import NotYet, wait_for
from holdfast.inventory.host import Deadlines, Host
from tests.unit.target import FakeMachine

KEYS = [key for key in Deadlines.model_fields if key != "dead_man_s"]


@pytest.mark.parametrize("key", KEYS)
def test_every_deadline_of_the_inventory_knows_its_key(key: str) -> None:
    for deadlines in (Deadlines(), Deadlines.model_validate({key: 7}), Host(name="x").deadlines):
        again = pickle.loads(pickle.dumps(Deadlines.model_validate_json(deadlines.model_dump_json())))
        for seconds in (getattr(deadlines, key), getattr(again, key)):
            assert or_raise(seconds) == f" Or raise deadlines.{key} in the inventory."


def test_what_is_left_of_a_deadline_still_knows_it(machine: FakeMachine) -> None:
    deadline = Deadline.after(Deadlines(upload_s=60).upload_s)
    machine.clock.sleep(20)
    assert (deadline.left_s(), deadline.timeout_s()) == (40, 40)
    for seconds in (deadline.left_s(), deadline.timeout_s()):
        assert "deadlines.upload_s" in or_raise(seconds)
    assert or_raise(Deadline.after(5).left_s()) == ""


def test_wait_names_the_key(machine: FakeMachine) -> None:
    def never() -> None:
        raise NotYet("nobody is there")

    with pytest.raises(NeverCame) as error:
        wait_for("cottage", never, deadline_s=Deadlines().answer_s)
    assert error.value.hint == "Or raise deadlines.answer_s in the inventory."
    with pytest.raises(NeverCame) as error:
        wait_for("cottage", never, deadline_s=5)
    assert error.value.hint == ""
    assert machine.clock.passed_s > 500


def test_command_of_the_operator_names_the_key() -> None:
    with pytest.raises(DeadlinePassed) as error:
        process.run_local(["sleep", "60"], timeout_s=Allowed(0.1, "build_s"))
    assert error.value.hint.endswith("then retry. Or raise deadlines.build_s in the inventory.")
