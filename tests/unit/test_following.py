"""`just install`, `just rehearse`: no run is created that nobody would start; Ctrl-C says what becomes of one."""

import functools
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Paused, Pending, Running, Scheduled

from deployments import following
from deployments.following import follow, require_served
from holdfast.base import clock
from holdfast.base.errors import ConfigError, HoldfastError, Unreachable
from tests.unit.clock import FakeClock

RUN = UUID(int=7)
URL = "http://127.0.0.1:4200/api"


class Server:
    """A Prefect server, and a client of it."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.polled_s_ago: Callable[[], float | None] = lambda: asks_every_10_s(0.0, 0.0)
        self.runs: list[SimpleNamespace] = []
        self.cancelled: list[UUID] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def read_deployment_by_name(self, name: str) -> SimpleNamespace:
        if self.error:
            raise self.error
        if name != "install/cottage":
            raise ObjectNotFound(Exception("no such deployment"))
        ago = self.polled_s_ago()
        polled = None if ago is None else clock.utc() - timedelta(seconds=round(ago, 3))
        return SimpleNamespace(id=UUID(int=1), last_polled=polled)

    def read_flow_runs(self, **_asked: object) -> list[SimpleNamespace]:
        if self.error:
            raise self.error
        return self.runs

    def set_flow_run_state(self, run_id: UUID, state: Any) -> None:
        assert state.is_cancelling()
        self.cancelled.append(run_id)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(following, "get_client", lambda **_options: made)
    monkeypatch.setattr(following, "PREFECT_API_URL", SimpleNamespace(value=lambda: URL))
    with clock.using(FakeClock()):
        yield made


def status(code: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError("no", request=httpx.Request("GET", URL), response=httpx.Response(code))


def asks_every_10_s(skew_s: float, began: float) -> float:
    return skew_s + (clock.monotonic() - began) % 10


@pytest.mark.usefixtures("server")
def test_a_served_deployment_may_start() -> None:
    assert require_served("install/cottage").id == UUID(int=1)


def test_a_server_with_another_clock_and_a_runner_that_asks_seldom(server: Server) -> None:
    for skew_s in (-3600.0, 3600.0):
        began = clock.monotonic()
        server.polled_s_ago = functools.partial(asks_every_10_s, skew_s, began)
        assert require_served("install/cottage")


@pytest.mark.parametrize(
    ("deployment", "change", "error", "said"),
    [
        (
            "install/cottage",
            {"polled_s_ago": lambda: None},
            Unreachable,
            "nobody serves install/cottage, so nothing was",
        ),
        ("install/barn", {}, ConfigError, f"the Prefect server at {URL} has no deployment install/barn"),
        ("install/cottage", {"error": httpx.ConnectError("refused")}, Unreachable, "does not answer: refused"),
        ("install/cottage", {"error": httpx.ReadTimeout("timed out")}, Unreachable, "does not answer: timed out"),
        ("install/cottage", {"error": status(401)}, ConfigError, "refuses: HTTP status 401"),
    ],
)
def test_what_cannot_start_is_one_line_and_creates_no_run(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    deployment: str,
    change: dict[str, Any],
    error: type[HoldfastError],
    said: str,
) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(error):
        require_served(deployment)
    monkeypatch.setattr(subprocess, "Popen", lambda *_given, **_told: pytest.fail("a run was created"))
    assert follow("install", deployment, {}) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("install: ")
    assert said in line
    assert "Hint: " in line


def test_a_deployment_that_is_served_since_a_moment(server: Server) -> None:
    begins = clock.monotonic() + 3
    server.polled_s_ago = lambda: 0.5 if clock.monotonic() > begins else None
    assert require_served("install/cottage")


@pytest.mark.parametrize("ago_s", [1.0, 300.0])
def test_what_was_served_until_a_moment_ago_starts_nothing(server: Server, ago_s: float) -> None:
    began = clock.utc()
    server.polled_s_ago = lambda: (clock.utc() - began).total_seconds() + ago_s
    with pytest.raises(Unreachable, match="nobody serves"):
        require_served("install/cottage")


def test_without_an_address_nothing_starts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server
    monkeypatch.setattr(following, "PREFECT_API_URL", SimpleNamespace(value=lambda: None))
    with pytest.raises(ConfigError, match="PREFECT_API_URL is not set"):
        require_served("install/cottage")


class Interrupted:
    """A `prefect deployment run --watch` while which somebody presses Ctrl-C."""

    def __init__(self, command: list[str], *, start_new_session: bool) -> None:
        assert command[:4] == ["prefect", "deployment", "run", "install/cottage"]
        assert start_new_session  # so that Ctrl-C reaches only us
        self._waited = False

    def wait(self) -> int:
        if not self._waited:
            self._waited = True
            raise KeyboardInterrupt
        return 143

    def terminate(self) -> None:
        pass


@pytest.mark.parametrize(
    ("state", "answer", "cancelled", "said"),
    [
        (Scheduled(), None, True, f"run {RUN} had not begun, and is cancelled."),
        (Scheduled(name="Late"), None, True, "had not begun, and is cancelled."),
        (Pending(), None, True, "had not begun, and is cancelled."),
        (Running(), None, False, f"continues without you. To cancel it: prefect flow-run cancel {RUN}"),
        (Running(), "", False, "continues without you"),
        (Running(), "n", False, "continues without you"),
        (Running(), KeyboardInterrupt(), False, "continues without you"),
        (Running(), "y", True, "is told to stop at the next safe point"),
        (Paused(), "Yes", True, "is told to stop at the next safe point"),
        (Completed(), "y", False, f"run {RUN} has ended already: Completed."),
        (Cancelled(), "y", False, "has ended already: Cancelled."),
    ],
)
def test_ctrl_c_says_what_becomes_of_the_run(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state: Any,
    answer: str | BaseException | None,
    cancelled: bool,
    said: str,
) -> None:
    def typed(_question: str) -> str:
        if isinstance(answer, BaseException):
            raise answer
        assert answer is not None
        return answer

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: answer is not None))
    monkeypatch.setattr("builtins.input", typed)
    planned = SimpleNamespace(id=UUID(int=9), state=Scheduled(), auto_scheduled=True)
    server.runs = [planned, SimpleNamespace(id=RUN, state=state, auto_scheduled=False)]
    assert follow("install", "install/cottage", {}) == 130
    assert said in capsys.readouterr().err
    assert server.cancelled == ([RUN] if cancelled else [])


def test_ctrl_c_twice_says_all_the_same_what_becomes_of_the_run(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: list[bool] = []

    class Impatient(Interrupted):
        def wait(self) -> int:
            raise KeyboardInterrupt

        def kill(self) -> None:
            killed.append(True)

    monkeypatch.setattr(subprocess, "Popen", Impatient)
    server.runs = [SimpleNamespace(id=RUN, state=Scheduled(), auto_scheduled=False)]
    assert follow("install", "install/cottage", {}) == 130
    assert "had not begun, and is cancelled" in capsys.readouterr().err
    assert (server.cancelled, killed) == ([RUN], [True])


def test_ctrl_c_while_it_looks_whether_somebody_serves(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> float:
        raise KeyboardInterrupt

    server.polled_s_ago = interrupted
    monkeypatch.setattr(subprocess, "Popen", lambda *_given, **_told: pytest.fail("a run was created"))
    assert follow("install", "install/cottage", {}) == 130
    assert capsys.readouterr().err == "\ninstall: nothing was started.\n"


def test_ctrl_c_before_there_is_a_run(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert server
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    assert follow("install", "install/cottage", {}) == 130
    assert "install: nothing was started." in capsys.readouterr().err


def test_ctrl_c_while_the_server_is_away_promises_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Away(Interrupted):
        def terminate(self) -> None:
            server.error = httpx.ConnectError("refused")

    monkeypatch.setattr(subprocess, "Popen", Away)
    assert follow("install", "install/cottage", {}) == 130
    assert "may go on: look there" in capsys.readouterr().err
