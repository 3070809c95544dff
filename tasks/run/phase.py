"""Makes a function a phase: a Prefect task with retries, a kept result, a log and a line in the journal."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from prefect import Task, get_run_logger, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from pydantic import BaseModel

from holdfast.base.brake import Stopped, obeying
from holdfast.base.errors import BackInInstaller, HoldfastError, NeverCame, Restarted, Unreachable
from holdfast.inventory.host import Host
from holdfast.plan.plan import Plan
from tasks.run.journal import Outcome, Stopwatch
from tasks.run.log import RunLog, reporting_to
from tasks.run.stopping import is_cancelled, stopped_in
from tasks.run.this_run import journal, run_id

P = ParamSpec("P")
R = TypeVar("R", bound=BaseModel)

RETRY_DELAYS_S: Final = [5.0, 20.0, 60.0]


@contextmanager
def journaled(name: str, host: Host | None, plan: Plan | None = None) -> Iterator[Callable[[BaseModel], None]]:
    """Open the log for an attempt at a phase, and write the attempt to the journal, however it ends.

    The phase begins only if the run is not cancelled. While it waits, it asks again (holdfast/base/brake.py). Prefect's
    own way to end a run, a signal to its process, may come at any moment: it too leaves an entry that says where the
    machine is.

    Args:
        name: the phase's name.
        host: the host whose machine the phase works on.
        plan: its plan, once there is one.

    Returns:
        A function: the body calls it with the phase's result.

    Raises:
        Stopped: the run is cancelled; the text says where the machine is.

    """
    watch = Stopwatch(name, flow_run.get_run_count())
    results: list[BaseModel] = []
    try:
        with RunLog(journal().output, get_run_logger()) as log, reporting_to(log):
            try:
                with obeying(is_cancelled):
                    yield results.append
            except Stopped:
                raise Stopped(stopped_in(name, host, plan)) from None
            except TerminationSignal:
                journal().add(watch.entry("cancelled", error=stopped_in(name, host, plan)))
                raise
    except TerminationSignal:
        raise
    except BaseException as error:
        line = str(error) if isinstance(error, HoldfastError | Stopped) else type(error).__name__
        outcome: Outcome = "cancelled" if isinstance(error, Stopped) else "failed"
        journal().add(watch.entry(outcome, error=line, back=isinstance(error, BackInInstaller)))
        raise
    journal().add(watch.entry("done", result=results[0].model_dump(mode="json") if results else None))


def _passes_by_itself(_task: "Task[..., Any]", _run: TaskRun, state: "State[Any]") -> bool:
    """Return whether to retry: true for a broken link or a reboot, false for a wait that reached its deadline."""
    return isinstance(state.data, Restarted | Unreachable) and not isinstance(state.data, NeverCame)


def _counted_start(settled_by: str) -> int:
    """Return which start of the run owns the result: the one that completed `settled_by`, and until then this one."""
    done = [entry.start for entry in journal().entries() if (entry.phase, entry.outcome) == (settled_by, "done")]
    return min([flow_run.get_run_count(), *done])


def _times_back() -> int:
    """Return how often this run found the machine in the installer again, after its first boot."""
    return sum(entry.back for entry in journal().entries())


def phase(
    name: str, *, retries: int = 0, settled_by: str = "", until_booted: bool = False
) -> Callable[[Callable[P, R]], "Task[P, R]"]:
    """Make a Prefect task of a phase.

    Its result is kept by run id and phase, so that a retry of the run does not run the phase again. (Prefect's
    own key changes with the code and the inputs.) A worker that does not have these results runs the phase again, so
    every phase looks at the target before it acts.

    Args:
        name: the phase's name in the UI, the journal and the report.
        retries: how often Prefect repeats the phase when the target was out of reach or was rebooted; 0 for kexec
            and partition.
        settled_by: a later phase. Until it is done, this phase's work can be undone (an installer returns to its
            origin), so a retry of the run runs this phase again.
        until_booted: whether a machine that did not boot its new system, and is in the installer again, has undone this
            phase's work (BackInInstaller). Then a retry of the run runs this phase again.

    """

    def of_run(_context: TaskRunContext, _arguments: dict[str, Any]) -> str:
        if settled_by:
            return f"{run_id()}-{name}-{_counted_start(settled_by)}"
        back = _times_back() if until_booted else 0
        return f"{run_id()}-{name}{f'-again-{back}' if back else ''}"

    def decorate(work: Callable[P, R]) -> "Task[P, R]":
        @functools.wraps(work)
        def attempt(*args: P.args, **kwargs: P.kwargs) -> R:
            given = (*args, *kwargs.values())
            host = next((value for value in given if isinstance(value, Host)), None)
            plan = next((value for value in given if isinstance(value, Plan)), None)
            with journaled(name, host, plan) as done:
                result = work(*args, **kwargs)
                done(result)
            return result

        # Failures are raised, since retries and the journal need them; Prefect before 3.9 kept a returned `Failed`.
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
