"""`just install`, `just rehearse`: no run is left that nobody would start; Ctrl-C says what becomes of one."""

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from deployments.following import follow, require_served
from holdfast.base import clock
from holdfast.base.errors import ConfigError, HoldfastError, Unreachable
from tests.unit.prefect_api import DEPLOYED, RUN, URL, PrefectApi, asks_every_10_s, detail, prefect_api, state


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PrefectApi]:
    with prefect_api(monkeypatch, tmp_path) as made:
        yield made


def always(response: httpx.Response) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _request: response


def failing(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise error

    return fail


@pytest.mark.usefixtures("server")
def test_a_served_deployment_may_start() -> None:
    assert require_served("install/cottage")["id"] == DEPLOYED


def test_a_server_with_another_clock_and_a_runner_that_asks_seldom(server: PrefectApi) -> None:
    for skew_s in (-3600.0, 3600.0):
        began = clock.monotonic()
        server.skew_s, server.polled_s_ago = skew_s, functools.partial(asks_every_10_s, began)
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
        ("install/cottage", {"answer": failing(httpx.ConnectError("refused"))}, Unreachable, "not answer: refused"),
        ("install/cottage", {"answer": failing(httpx.ReadTimeout(""))}, Unreachable, "not answer: ReadTimeout"),
        ("install/cottage", {"answer": failing(httpx.ProxyError("403"))}, Unreachable, "the proxy says: 403"),
        (
            "install/cottage",
            {"answer": failing(httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"))},
            ConfigError,
            "PREFECT_API_SSL_CERT_FILE",
        ),
        (
            "install/cottage",
            {"answer": always(detail(401))},
            ConfigError,
            "refuses: HTTP status 401. Hint: Look at",
        ),
        ("install/cottage", {"answer": always(detail(403))}, ConfigError, "PREFECT_API_KEY if it wants a key"),
        ("install/cottage", {"answer": always(detail(404, "Not Found"))}, ConfigError, "is not Prefect's API"),
        ("install/cottage", {"answer": always(httpx.Response(404, text="nginx"))}, ConfigError, "is not Prefect's API"),
        ("install/cottage", {"answer": always(httpx.Response(200, text="<html>"))}, ConfigError, "ends with /api"),
        ("install/cottage", {"answer": always(httpx.Response(200, json=[]))}, ConfigError, "ends with /api"),
        ("install/cottage", {"answer": always(httpx.Response(407))}, Unreachable, "HTTP status 407. Hint: It is over"),
        ("install/cottage", {"answer": always(httpx.Response(502, text="bad gateway"))}, Unreachable, "NO_PROXY"),
    ],
)
def test_what_cannot_start_is_one_line_and_creates_no_run(
    server: PrefectApi,
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
    assert follow("install", deployment, {}) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("install: ")
    assert said in line
    assert "Hint: " in line
    assert server.created == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PREFECT_API_URL", "127.0.0.1:4200/api", "is no address"),
        ("PREFECT_API_URL", "http://[::1/api", "is no address"),
        ("PREFECT_API_URL", "http://host name/api", "is no address"),
        ("PREFECT_API_SSL_CERT_FILE", "/nowhere/ca.pem", "cannot be asked"),
    ],
)
def test_a_wrong_setting_is_one_line(
    server: PrefectApi,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(name, value)
    assert follow("install", "install/cottage", {}) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert "Hint: " in line
    assert server.created == []


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({}, None),
        ({"PREFECT_API_KEY": "pnu_key"}, "Bearer pnu_key"),
        ({"PREFECT_API_KEY": "pnu_key", "PREFECT_API_AUTH_STRING": "admin:a:b"}, "Basic YWRtaW46YTpi"),
        ({"PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Front": "door"}'}, None),
    ],
)
def test_login_is_sent_as_prefect_sends_it(
    server: PrefectApi, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], sent: str | None
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    headers: list[httpx.Headers] = []

    def remember(request: httpx.Request) -> None:
        headers.append(request.headers)

    server.answer = remember
    assert follow("install", "install/cottage", {}) == 0
    assert {each.get("Authorization") for each in headers} == {sent}
    assert {each.get("X-Front") for each in headers} == {"door" if "CUSTOM" in "".join(settings) else None}


def test_a_server_that_wants_a_token_against_forged_requests_gets_it(server: PrefectApi) -> None:
    def guarded(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == "/api/csrf-token":
            return httpx.Response(200, json={"token": f"for {request.url.params['client']}"})
        client = request.headers.get("Prefect-Csrf-Client")
        if request.method == "POST" and request.headers.get("Prefect-Csrf-Token") != f"for {client}":
            return detail(403, "Missing CSRF token.")
        return None

    server.answer = guarded
    assert follow("install", "install/cottage", {"target": "x"}) == 0
    assert server.parameters() == {"target": "x"}


def test_a_server_that_is_busy_is_asked_again(server: PrefectApi) -> None:
    refusals = iter([httpx.Response(503), httpx.Response(503)])
    server.answer = lambda _request: next(refusals, None)
    assert follow("install", "install/cottage", {}) == 0
    assert len(server.created) == 1


def test_a_run_that_prefect_refuses_is_one_line(server: PrefectApi, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(request: httpx.Request) -> httpx.Response | None:
        return detail(422, "Error creating flow run: 'target' is wrong") if "create" in request.url.path else None

    server.answer = refuse
    assert follow("install", "install/cottage", {}) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "HTTP status 422, Error creating flow run: 'target' is wrong. Hint: " in line


def test_a_deployment_that_is_served_since_a_moment(server: PrefectApi) -> None:
    begins = clock.monotonic() + 3
    server.polled_s_ago = lambda: 0.5 if clock.monotonic() > begins else None
    assert require_served("install/cottage")


def test_what_was_served_long_ago_starts_nothing(server: PrefectApi) -> None:
    began = clock.utc()
    server.polled_s_ago = lambda: (clock.utc() - began).total_seconds() + 300
    assert follow("install", "install/cottage", {}) == 2
    assert server.created == []


def test_what_was_served_until_a_moment_ago_is_cancelled_before_it_begins(
    server: PrefectApi, capsys: pytest.CaptureFixture[str]
) -> None:
    began = clock.utc()
    server.polled_s_ago = lambda: (clock.utc() - began).total_seconds() + 1
    server.states = [state("SCHEDULED")]
    assert follow("install", "install/cottage", {}) == 2
    assert "nobody serves install/cottage, so the run was cancelled before it began" in capsys.readouterr().err
    assert server.cancelled == [RUN]


def test_what_somebody_takes_at_the_last_moment_is_followed(server: PrefectApi) -> None:
    began = clock.utc()
    server.polled_s_ago = lambda: (clock.utc() - began).total_seconds() + 1
    server.states = [state("SCHEDULED")] * 5 + [state("PENDING"), state("COMPLETED")]
    assert follow("install", "install/cottage", {}) == 0
    assert server.cancelled == []


def interrupt_once_created(server: PrefectApi) -> None:
    """Press Ctrl-C once, as soon as there is a run."""
    pressed: list[bool] = []

    def press(_request: httpx.Request) -> None:
        if server.created and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt

    server.answer = press


@pytest.mark.parametrize(
    ("now", "answer", "cancelled", "said"),
    [
        (state("SCHEDULED"), None, True, f"run {RUN} had not begun, and is cancelled."),
        (state("SCHEDULED", "Late"), None, True, "had not begun, and is cancelled."),
        (state("PENDING"), None, True, "had not begun, and is cancelled."),
        (state("RUNNING"), None, False, f"continues without you. To cancel it: prefect flow-run cancel {RUN}"),
        (state("RUNNING"), "", False, "continues without you"),
        (state("RUNNING"), "n", False, "continues without you"),
        (state("RUNNING"), KeyboardInterrupt(), False, "continues without you"),
        (state("RUNNING"), "y", True, "is told to stop at the next safe point"),
        (state("PAUSED"), "Yes", True, "is told to stop at the next safe point"),
        (state("COMPLETED"), "y", False, f"run {RUN} has ended already: Completed."),
        (state("CANCELLED"), "y", False, "has ended already: Cancelled."),
    ],
)
def test_ctrl_c_says_what_becomes_of_the_run(
    server: PrefectApi,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    now: dict[str, Any],
    answer: str | BaseException | None,
    cancelled: bool,
    said: str,
) -> None:
    def typed(_question: str) -> str:
        if isinstance(answer, BaseException):
            raise answer
        assert answer is not None
        return answer

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: answer is not None))
    monkeypatch.setattr("builtins.input", typed)
    server.states = [now]
    interrupt_once_created(server)
    assert follow("install", "install/cottage", {}) == 130
    assert said in capsys.readouterr().err
    assert server.cancelled == ([RUN] if cancelled else [])


def test_ctrl_c_twice_ends_at_once_and_promises_nothing(server: PrefectApi, capsys: pytest.CaptureFixture[str]) -> None:
    def press(_request: httpx.Request) -> None:
        if server.created:
            raise KeyboardInterrupt

    server.answer = press
    assert follow("install", "install/cottage", {}) == 130
    assert "may go on: look in Prefect" in capsys.readouterr().err


def test_ctrl_c_before_there_is_a_run(server: PrefectApi, capsys: pytest.CaptureFixture[str]) -> None:
    pressed: list[bool] = []

    def press(_request: httpx.Request) -> None:
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt

    server.answer = press
    assert follow("install", "install/cottage", {}) == 130
    assert capsys.readouterr().err == "\ninstall: nothing was started.\n"


def test_ctrl_c_while_the_server_is_away_promises_nothing(
    server: PrefectApi, capsys: pytest.CaptureFixture[str]
) -> None:
    pressed: list[bool] = []

    def press(_request: httpx.Request) -> None:
        if server.created:
            if pressed:
                raise httpx.ConnectError("refused")
            pressed.append(True)
            raise KeyboardInterrupt

    server.answer = press
    assert follow("install", "install/cottage", {}) == 130
    assert "may go on: look there" in capsys.readouterr().err


def test_starting_needs_no_prefect() -> None:
    code = "import sys, deployments.start; sys.exit('prefect' in sys.modules or 'paramiko' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
