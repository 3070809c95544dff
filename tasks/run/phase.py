"""What makes a function a phase: a Prefect task with retries, a kept result, a log and a line in the journal."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from prefect import Task, get_run_logger, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.runtime import flow_run
from pydantic import BaseModel

from holdfast.base.errors import HoldfastError, NeverCame, Restarted, Unreachable
from tasks.run.journal import Stopwatch
from tasks.run.log import RunLog, reporting_to
from tasks.run.this_run import journal, run_id

P = ParamSpec("P")
R = TypeVar("R", bound=BaseModel)

RETRY_DELAYS_S: Final = [5.0, 20.0, 60.0]


@contextmanager
def journaled(name: str) -> Iterator[Callable[[BaseModel], None]]:
    """Open the log for an attempt at a phase, and write the attempt into the journal, however it ends.

    The body gives its result to the value.
    """
    watch = Stopwatch(name, flow_run.get_run_count())
    results: list[BaseModel] = []
    try:
        with RunLog(journal().output, get_run_logger()) as log, reporting_to(log):
            yield results.append
    except BaseException as error:
        line = str(error) if isinstance(error, HoldfastError) else type(error).__name__
        journal().add(watch.entry("failed", error=line))
        raise
    journal().add(watch.entry("done", result=results[0].model_dump(mode="json") if results else None))


def _passes_by_itself(_task: "Task[..., Any]", _run: TaskRun, state: "State[Any]") -> bool:
    """Say whether a failure may be over in a while: a link that broke is, a wait that was in vain is not."""
    return isinstance(state.data, Restarted | Unreachable) and not isinstance(state.data, NeverCame)


def _counted_start(settled_by: str) -> int:
    """Return the start of the run whose result counts: the one in which that phase was done, until then this one."""
    done = [entry.start for entry in journal().entries() if (entry.phase, entry.outcome) == (settled_by, "done")]
    return min([flow_run.get_run_count(), *done])


def phase(name: str, *, retries: int = 0, settled_by: str = "") -> Callable[[Callable[P, R]], "Task[P, R]"]:
    """Make a Prefect task of a phase.

    Its result is kept by run id and phase, so that a retry of the run does not run the phase again. (Prefect's
    own key changes with the code and the inputs.) A worker without these results runs it again: so every phase
    looks at the target before it acts.

    Args:
        name: the phase's name in the UI, the journal and the report.
        retries: how often Prefect repeats the phase by itself when the target was out of reach, or was rebooted.
            0 for kexec and partition.
        settled_by: a later phase. Until that is done, what this one did can be undone (an installer goes back to
            the origin), so a retry of the run does run it again.

    """

    def of_run(_context: TaskRunContext, _arguments: dict[str, Any]) -> str:
        return f"{run_id()}-{name}-{_counted_start(settled_by)}" if settled_by else f"{run_id()}-{name}"

    def decorate(work: Callable[P, R]) -> "Task[P, R]":
        @functools.wraps(work)
        def attempt(*args: P.args, **kwargs: P.kwargs) -> R:
            with journaled(name) as done:
                result = work(*args, **kwargs)
                done(result)
            return result

        # Failures are raised: retries and the journal go by them, and Prefect before 3.9 kept a returned `Failed`.
        made: Task[P, R] = task(
            name=name,
            retries=retries,
            retry_delay_seconds=RETRY_DELAYS_S[:retries] or None,
            retry_condition_fn=_passes_by_itself if retries else None,
            cache_key_fn=of_run,
            persist_result=True,
            result_serializer="json",
        )(attempt)
        return made

    return decorate
