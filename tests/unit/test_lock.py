"""Who may work on a target: the rules, with a lock that a dictionary plays."""

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Cancelling, Completed, Crashed, Failed, Paused, Running

from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.base.places import LOCK
from holdfast.facts.marks import InstallerMark
from holdfast.ssh.connection import Connection
from holdfast.target.lock import LEASE_S, check, hold
from tasks.run import this_run

OWN, OTHER = "run-own", "run-other"
FREE: dict[str, Any] = {"lock": "none", "run_id": "", "since": 0, "renewed": 0, "age_s": 0, "up_s": 50}
MARK = InstallerMark(run_id=OTHER, state="restored")


class Lock:
    """Answers as lock.sh does."""

    endpoint = SimpleNamespace(host="cottage")

    def __init__(self, holder: str = "", *, age_s: int = 10, **values: object) -> None:
        held = {"lock": "held", "run_id": holder, "since": 1735689600, "renewed": 1735689600, "age_s": age_s}
        self.state = {**FREE, **(held if holder else {}), **values}
        self.asked: list[list[str]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def run_script(self, script: str, words: Sequence[str], *, timeout_s: float, max_output_bytes: int) -> object:
        assert "lock.sh take" in script
        assert timeout_s > 0 < max_output_bytes
        self.asked.append(list(words))
        if words[0] == "take":
            self.meanwhile()
            if self.state["lock"] in ("none", "free") or self.state["run_id"] in (words[1], words[-1]):
                self.state |= {"lock": "held", "run_id": words[1], "age_s": 0}
        return SimpleNamespace(stdout=json.dumps(self.state) + "\n")

    @property
    def target(self) -> Connection:
        return cast("Connection", self)


def unasked(_run: str) -> bool | None:
    raise AssertionError("nobody has to be asked")


def says(answer: bool | None) -> Callable[[str], bool | None]:
    def is_over(run: str) -> bool | None:
        assert run == OTHER
        return answer

    return is_over


@pytest.mark.parametrize("lock", [Lock(), Lock(OWN), Lock(lock="free")])
def test_free_or_own(lock: Lock) -> None:
    check(lock.target, OWN, unasked, mark=None)
    assert lock.asked == [["show"]]
    assert hold(lock.target, OWN, unasked, mark=None) == ""
    assert lock.asked[-1] == ["take", OWN]
    assert lock.state["run_id"] == OWN


def test_of_a_run_that_is_over() -> None:
    lock = Lock(OTHER)
    check(lock.target, OWN, says(True), mark=None)
    assert lock.state["run_id"] == OTHER
    assert hold(lock.target, OWN, says(True), mark=None) == "taking over cottage from run run-other, which has ended"
    assert lock.asked[-1] == ["take", OWN, "--instead-of", OTHER]


def test_of_a_run_that_works() -> None:
    lock = Lock(OTHER, age_s=10 * LEASE_S)
    for look in (hold, check):
        with pytest.raises(TargetRefused) as error:
            look(lock.target, OWN, says(False), mark=None)
        said = "another run works on cottage: run run-other holds the lock since 2025-01-01 00:00:00 UTC, by its clock."
        assert error.value.message == said
        assert error.value.hint == "Wait for it, or cancel it in Prefect."
    assert lock.asked == [["take", OWN], ["show"]]  # without `--instead-of`, which takes nothing from another


def test_of_a_run_that_this_server_does_not_know() -> None:
    lock = Lock(OTHER, age_s=LEASE_S - 1)
    with pytest.raises(TargetRefused, match="this Prefect server does not know it, or does not answer") as error:
        hold(lock.target, OWN, says(None), mark=None)
    assert "run run-other holds the lock since 2025-01-01" in error.value.message
    assert f"`: >{LOCK}`" in error.value.hint
    lock.state["age_s"] = LEASE_S
    check(lock.target, OWN, says(None), mark=None)
    assert "nothing was heard from it for 6 h" in hold(lock.target, OWN, says(None), mark=None)
    assert lock.state["run_id"] == OWN


def test_mark_of_the_installer_counts_until_somebody_took_the_lock() -> None:
    with pytest.raises(TargetRefused, match="run run-other started the installer that runs, 50 s ago"):
        hold(Lock().target, OWN, says(False), mark=MARK)
    with pytest.raises(TargetRefused, match="does not know it"):
        check(Lock(up_s=LEASE_S - 1).target, OWN, says(None), mark=MARK)
    assert "heard from it for 6 h" in hold(Lock(up_s=LEASE_S).target, OWN, says(None), mark=MARK)
    lock = Lock()
    assert "which has ended" in hold(lock.target, OWN, says(True), mark=MARK)
    assert lock.asked == [["show"], ["take", OWN]]
    assert hold(lock.target, OWN, unasked, mark=MARK) == ""
    assert hold(Lock(lock="free").target, OWN, unasked, mark=MARK) == ""
    assert hold(Lock().target, OTHER, unasked, mark=MARK) == ""
    assert hold(Lock().target, OWN, unasked, mark=InstallerMark(run_id=None, state="none")) == ""


def test_somebody_is_quicker() -> None:
    lock = Lock()

    def taken() -> None:
        if lock.state["lock"] == "none":
            lock.state |= {"lock": "held", "run_id": OTHER}

    lock.meanwhile = taken
    with pytest.raises(TargetRefused, match="another run works on cottage: run run-other"):
        hold(lock.target, OWN, says(False), mark=None)
    assert lock.state["run_id"] == OTHER


def test_somebody_is_always_quicker() -> None:
    lock = Lock()

    def taken() -> None:
        lock.state |= {"lock": "held", "run_id": uuid.uuid4().hex}

    lock.meanwhile = taken
    with pytest.raises(TargetRefused, match="took the lock on cottage 3 times"):
        hold(lock.target, OWN, lambda _run: True, mark=None)


@pytest.mark.parametrize(
    "changed",
    [
        {"run_id": "a b"},
        {"run_id": "a" * 65},
        {"run_id": None},
        {"since": -1},
        {"since": "1"},
        {"age_s": 1.5},
        {"lock": "mine"},
        {"more": 1},
    ],
)
def test_invalid_answer(changed: dict[str, object]) -> None:
    lock = Lock(OTHER)
    lock.state |= changed
    with pytest.raises(UnexpectedState, match="cottage gave an invalid answer about its lock"):
        hold(lock.target, OWN, unasked, mark=None)


def test_broken_lock_is_named() -> None:
    lock = Lock(lock="broken")
    for look in (hold, check):
        with pytest.raises(UnexpectedState, match=f"{LOCK} on cottage is not a valid lock.*empty the lock there"):
            look(lock.target, OWN, unasked, mark=None)
    assert lock.asked == [["take", OWN], ["show"]]  # without `--instead-of`, which takes nothing from another


class Server:
    """What run_is_over needs of a Prefect server."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    @contextlib.contextmanager
    def client(self, *, sync_client: bool) -> Iterator["Server"]:
        assert sync_client
        yield self

    def read_flow_run(self, run: uuid.UUID) -> object:
        assert isinstance(run, uuid.UUID)
        if isinstance(self.answer, Exception):
            raise self.answer
        return SimpleNamespace(state=self.answer)


@pytest.mark.parametrize(
    ("answer", "over"),
    [
        (Completed(), True),
        (Failed(), True),
        (Crashed(), True),
        (Cancelled(), True),
        (Running(), False),
        (Paused(), False),
        (Cancelling(), False),
        (AwaitingRetry(), False),
        (None, False),
        (ObjectNotFound(ValueError("404")), None),
        (httpx.ConnectError("refused"), None),
        (httpx.ReadTimeout("slow"), None),
    ],
)
def test_what_prefect_knows_of_a_run(monkeypatch: pytest.MonkeyPatch, answer: object, over: bool | None) -> None:
    monkeypatch.setattr(this_run, "get_client", Server(answer).client)
    assert this_run.run_is_over(str(uuid.uuid4())) is over
    assert this_run.run_is_over("run-1") is None
