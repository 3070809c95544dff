"""Which phases a flow has, and in which order: read from the flow's body, the only place that says so."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect import Flow, Task


@dataclass(frozen=True, slots=True)
class PhaseOfFlow:
    """A phase, as a flow calls it.

    Attributes:
        name: the phase's name in the log, the report and the docs; its file's name in `tasks/`.
        always: true if every run has it; false if the flow calls it on a condition.
        is_task: whether it is a Prefect task; Prefect keeps only the results of tasks.

    """

    name: str
    always: bool
    is_task: bool


def phases_of(flow: Flow[..., Any]) -> tuple[PhaseOfFlow, ...]:
    """Return the phases of a flow, in the order in which its body calls them."""
    body: Callable[..., object] = inspect.unwrap(flow.fn)
    [function] = ast.parse(textwrap.dedent(inspect.getsource(body))).body
    assert isinstance(function, ast.FunctionDef)
    found = _Calls(body.__globals__)
    for statement in function.body:
        found.visit(statement)
    return tuple(found.phases)


class _Calls(ast.NodeVisitor):
    """Collects the calls of functions that come from a phase's file, `tasks/NAME.py`."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names
        self._conditions = 0
        self.phases: list[PhaseOfFlow] = []

    def visit_If(self, node: ast.If) -> None:
        """Visit what depends on a condition."""
        self.visit(node.test)
        self._conditions += 1
        for statement in (*node.body, *node.orelse):
            self.visit(statement)
        self._conditions -= 1

    def visit_Call(self, node: ast.Call) -> None:
        """Collect a call of a phase, after the calls in its arguments, which run before it."""
        self.generic_visit(node)
        if not isinstance(node.func, ast.Name):
            return
        called = self._names.get(node.func.id)
        folder, _, name = getattr(called, "__module__", "").partition(".")
        if folder == "tasks" and "." not in name:
            self.phases.append(PhaseOfFlow(name, always=not self._conditions, is_task=isinstance(called, Task)))
