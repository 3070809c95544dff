"""A Prefect server as its HTTP API shows it, without network: what `just install` asks, and what it is answered."""

import functools
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import pytest

from holdfast.base import clock
from tests.unit.clock import FakeClock

URL: Final = "http://127.0.0.1:4200/api"
RUN: Final = str(UUID(int=7))
DEPLOYED: Final = str(UUID(int=1))


def asks_every_10_s(began: float) -> float:
    return (clock.monotonic() - began) % 10


class PrefectApi:
    """The server.

    Attributes:
        polled_s_ago: when somebody last asked for the deployment's runs; None for never.
        skew_s: by how much its clock is ahead.
        answer: what it answers whatever it is asked; None for what is right. It may raise.
        states: of the run, one for each time that it is read; the last one stays.
        created: the bodies of the requests that create a run.
        cancelled: the runs that were cancelled.
        logs: the run's log.
        tasks: the run's tasks.
        seen: method and path of each request.

    """

    def __init__(self) -> None:
        self.polled_s_ago: Callable[[], float | None] = functools.partial(asks_every_10_s, 0.0)
        self.skew_s = 0.0
        self.answer: Callable[[httpx.Request], httpx.Response | None] = lambda _request: None
        self.states: list[dict[str, Any]] = [state("COMPLETED")]
        self.created: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        self.logs: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.seen: list[str] = []

    def parameters(self) -> dict[str, object]:
        """Return the parameters of the one run that was created."""
        [made] = self.created
        return dict(made["parameters"])

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api")
        self.seen.append(f"{request.method} {path}")
        answer = self.answer(request) or self._right(request.method, path, json.loads(request.content or "{}"))
        answer.headers["Date"] = format_datetime(self._now(), usegmt=True)
        return answer

    def _now(self) -> datetime:
        return clock.utc() + timedelta(seconds=self.skew_s)

    def _right(self, method: str, path: str, told: dict[str, Any]) -> httpx.Response:
        match method, path:
            case "GET", "/deployments/name/install/cottage" | "/deployments/name/rehearse/cottage":
                ago = self.polled_s_ago()
                polled = None if ago is None else (self._now() - timedelta(seconds=round(ago, 3))).isoformat()
                return httpx.Response(200, json={"id": DEPLOYED, "last_polled": polled})
            case "GET", _ if path.startswith("/deployments/name/"):
                return httpx.Response(404, json={"detail": "Deployment not found"})
            case "POST", "/flow_runs/filter":
                assert set(told) == {"flow_runs", "limit"}
                [key] = told["flow_runs"]["idempotency_key"]["any_"]
                mine = any(made["idempotency_key"] == key for made in self.created)
                return httpx.Response(200, json=[self._run()] if mine else [])
            case "POST", "/logs/filter":
                assert told["logs"]["flow_run_id"] == {"any_": [RUN]}
                since = told["logs"].get("timestamp", {}).get("after_", "")
                found = [record for record in self.logs if record["timestamp"] >= since]
                return httpx.Response(200, json=found[told["offset"] :][: told["limit"]])
            case "POST", "/task_runs/filter":
                return httpx.Response(200, json=self.tasks)
            case "GET", "/csrf-token":
                return httpx.Response(422, json={"detail": "CSRF protection is disabled."})
        if path == f"/deployments/{DEPLOYED}/create_flow_run":
            self.created.append(told)
            return httpx.Response(201, json={"id": RUN})
        if path == f"/flow_runs/{RUN}":
            return httpx.Response(200, json=self._run())
        if cancelled := re.fullmatch(r"/flow_runs/(.+)/set_state", path):
            assert told["state"]["type"] == "CANCELLING"
            self.cancelled.append(cancelled[1])
            return httpx.Response(201, json={"status": "ACCEPT"})
        return httpx.Response(404, json={"detail": "Not Found"})

    def _run(self) -> dict[str, Any]:
        now = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {"id": RUN, "state": now}


def detail(status: int, text: str = "no") -> httpx.Response:
    """Return how Prefect says what it refuses."""
    return httpx.Response(status, json={"detail": text})


def state(kind: str, name: str = "", message: str = "") -> dict[str, Any]:
    shown = name or kind.capitalize()
    return {"id": f"{kind} {shown}", "type": kind, "name": shown, "message": message, "timestamp": None}


@contextmanager
def prefect_api(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[PrefectApi]:
    """Put a server in the place of every other one; waiting takes no time."""
    made = PrefectApi()
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(folder))
    monkeypatch.setenv("PREFECT_API_URL", URL)
    monkeypatch.setattr(httpx, "Client", functools.partial(httpx.Client, transport=httpx.MockTransport(made)))
    with clock.using(FakeClock()):
        yield made
