"""The Prefect server as phases see it, and phases without Prefect. The fixture `server` puts it in place."""

import logging
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import FlowPauseTimeout, ObjectNotFound
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Cancelling
from pydantic.fields import FieldInfo

from tasks import approve, go_back, preflight, rehearsed
from tasks.run import flow, lateness, phase, progress, stopping, this_run
from tests.unit.target import RUN


def body(task: Any) -> Callable[..., Any]:
    """Return a phase's function without Prefect and without the journal."""
    work: Callable[..., Any] = task.fn.__wrapped__
    return work


class Server:
    """A client of it.

    Attributes:
        over: the runs that it knows, and whether they are over.
        runs: what it answers when it is asked for flow runs, in pages.
        asked: how it was asked for them.
        labels: what was written on this run.
        artifacts: what the run showed, by key.
        typed: what a person types who resumes a paused run; None if nobody comes.
        forms: what such a person is shown.
        cancelled: whether this run is cancelled; None if the server does not answer.
        states: what this run has been through.

    """

    def __init__(self) -> None:
        self.over: dict[str, bool] = {}
        self.runs: list[FlowRun] = []
        self.asked: list[dict[str, Any]] = []
        self.labels: dict[str, object] = {}
        self.artifacts: dict[str, str] = {}
        self.typed: str | None = "cottage"
        self.forms: list[str] = []
        self.fields: list[FieldInfo] = []
        self.cancelled: bool | None = False
        self.states: list[State[object]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def read_flow_run(self, run_id: UUID) -> SimpleNamespace:
        if str(run_id) == RUN and self.cancelled is None:
            raise httpx.ConnectError("connection refused")
        if str(run_id) == RUN and self.cancelled:
            return SimpleNamespace(state=Cancelling())
        if str(run_id) not in self.over:
            raise ObjectNotFound(Exception("no such run"))
        return SimpleNamespace(
            state=SimpleNamespace(
                is_final=lambda: self.over[str(run_id)], is_cancelling=lambda: False, is_cancelled=lambda: False
            )
        )

    def read_flow_run_states(self, run_id: UUID) -> list[State[object]]:
        assert str(run_id) == flow_run.get_id()
        return self.states if str(run_id) == RUN else []

    def read_flow_runs(self, *, limit: int, offset: int, **asked: Any) -> list[FlowRun]:
        self.asked.append(asked)
        return self.runs[offset : offset + limit]

    def update_flow_run_labels(self, _run_id: UUID, labels: Mapping[str, object]) -> None:
        self.labels.update(labels)

    def show(self, text: str = "", *, key: str, **_options: object) -> UUID:
        self.artifacts[key] = text
        return UUID(int=len(self.artifacts))

    def pause(self, *, wait_for_input: type[RunInput], timeout: int, **_options: object) -> SimpleNamespace:
        assert timeout == 86400
        self.forms.append(str(wait_for_input._description))
        self.fields.append(wait_for_input.model_fields["host"])
        if self.typed is None:
            raise FlowPauseTimeout
        return SimpleNamespace(host=self.typed)


def put_in_place(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Let phases see a server of their own, as the run RUN."""
    made = Server()
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", RUN)
    monkeypatch.setattr(flow_run, "get_run_count", lambda: 1)
    monkeypatch.setattr(flow_run, "get_flow_name", lambda: "install")
    monkeypatch.setattr(flow_run, "get_parameters", lambda: {"host": "cottage"})
    for glue in (phase, flow):
        monkeypatch.setattr(glue, "get_run_logger", lambda: logging.getLogger("tests"))
    for module in (this_run, stopping, lateness, go_back, rehearsed):
        monkeypatch.setattr(module, "get_client", lambda **_options: made)
    monkeypatch.setattr(approve, "pause_flow_run", made.pause)
    monkeypatch.setattr(flow, "create_markdown_artifact", made.show)
    monkeypatch.setattr(preflight, "create_markdown_artifact", made.show)
    monkeypatch.setattr(progress, "create_progress_artifact", made.show)
    monkeypatch.setattr(progress, "update_progress_artifact", lambda *_given, **_told: None)
    return made
