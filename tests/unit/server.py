"""The Prefect server as phases see it, and phases without Prefect. The fixture `server` puts it in place."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound


def body(phase: Any) -> Callable[..., Any]:
    """Return a phase's function without Prefect and without the journal."""
    work: Callable[..., Any] = phase.fn.__wrapped__
    return work


class Server:
    """A client of it.

    Attributes:
        over: the runs that it knows, and whether they are over.
        runs: what it answers when it is asked for flow runs, in pages.
        asked: how it was asked for them.
        labels: what was written on this run.
        artifacts: what the run showed, by key.

    """

    def __init__(self) -> None:
        self.over: dict[str, bool] = {}
        self.runs: list[FlowRun] = []
        self.asked: list[dict[str, Any]] = []
        self.labels: dict[str, object] = {}
        self.artifacts: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def read_flow_run(self, run_id: UUID) -> SimpleNamespace:
        if str(run_id) not in self.over:
            raise ObjectNotFound(Exception("no such run"))
        return SimpleNamespace(state=SimpleNamespace(is_final=lambda: self.over[str(run_id)]))

    def read_flow_runs(self, *, limit: int, offset: int, **asked: Any) -> list[FlowRun]:
        self.asked.append(asked)
        return self.runs[offset : offset + limit]

    def update_flow_run_labels(self, _run_id: UUID, labels: Mapping[str, object]) -> None:
        self.labels.update(labels)

    def show(self, text: str = "", *, key: str, **_options: object) -> UUID:
        self.artifacts[key] = text
        return UUID(int=len(self.artifacts))
