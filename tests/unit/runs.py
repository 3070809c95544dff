"""Runs of a flow without Prefect: a start calls each phase, a Retry starts again with the results that were kept."""

import importlib
from collections.abc import Callable
from typing import Any, Final

import pytest
from prefect import Task
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from holdfast.base.errors import BackInInstaller
from tests.unit.server import body

# Until this phase is done, the phases before it that it settles run again (`settled_by` in tasks/run/phase.py).
SETTLES: Final = "partition"
SETTLED: Final = ("kexec", "reconnect")
# These run again if the machine did not boot its new system (`until_booted`).
UNTIL_BOOTED: Final = ("trial", "reboot")


class Run:
    """One run of `install` or `rehearse` for cottage.

    Args:
        monkeypatch: puts its phases in place.
        run_id: its id.
        flow: the flow.
        parameters: what the flow is told.

    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, run_id: str, flow: str = "install", **parameters: object
    ) -> None:
        self.run_id, self.parameters = run_id, parameters
        self.results: dict[str, object] = {}
        self._patch, self._starts = monkeypatch, 0
        self._module = importlib.import_module(f"flows.{flow}")
        self._flow = getattr(self._module, flow).fn.__wrapped__

    def start(self) -> "State[None] | None":
        """Start it, or start it again as a Retry does."""
        self._starts += 1
        self._patch.setenv("PREFECT__FLOW_RUN_ID", self.run_id)
        self._patch.setattr(flow_run, "get_run_count", lambda: self._starts)
        with self._patch.context() as patched:
            for called, phase in list(vars(self._module).items()):
                if isinstance(phase, Task):
                    patched.setattr(self._module, called, self._kept(phase.name, body(phase)))
            try:
                ended: State[None] | None = self._flow("cottage", **self.parameters)
            except BackInInstaller:
                for name in UNTIL_BOOTED:
                    self.results.pop(name, None)
                raise
        return ended

    def _kept(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: object, **told: object) -> object:
            again = name in SETTLED and SETTLES not in self.results
            if again or name not in self.results:
                self.results[name] = work(*given, **told)
            return self.results[name]

        return call
