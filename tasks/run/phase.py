"""What makes a function a phase, and a flow a run of phases: results, retries, journal, one-line failures."""

import functools
import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

import httpx
from prefect import Task, get_client, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.exceptions import FailedRun, ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Failed
from pydantic import BaseModel

from holdfast.base.errors import HoldfastError, NeverCame, Restarted, Unreachable
from holdfast.base.settings import settings
from holdfast.facts.facts import Facts
from holdfast.inventory.host import NAME
from holdfast.ssh.connection import Connection
from holdfast.target import lock
from tasks.run.journal import Journal, Stopwatch
from tasks.run.lines import Lines
from tasks.run.report import assemble

P = ParamSpec("P")
R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")

RETRY_DELAYS_S: Final = [5.0, 20.0, 60.0]


class _OneLine(logging.Filter):
    """Drops the traceback of the failures that Holdfast raises on purpose: their message says it all."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record, some without their traceback."""
        if record.exc_info and isinstance(record.exc_info[1], HoldfastError | FailedRun):
            record.exc_info = None
        return True


for _name in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_OneLine())


def run_id() -> str:
    """Return the id of this flow run, which marks what the run does to the target."""
    return str(flow_run.get_id())


def journal() -> Journal:
    """Return the journal of this run."""
    return Journal.of_run(settings().runs_dir, run_id())


def say(message: str) -> None:
    """Log a line to the run."""
    get_run_logger().info("%s", message)


def warn(message: str) -> None:
    """Log a warning to the run."""
    get_run_logger().warning("%s", message)


def lines() -> AbstractContextManager[Lines]:
    """Return what takes a command's output to the run's log and to its file."""
    logger = get_run_logger()
    return Lines(journal().output, lambda text: logger.info("%s", text))


def run_is_over(other: str) -> bool | None:
    """Ask Prefect whether a run has ended; None if it does not know such a run, or does not answer."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(other)).state
    except (ValueError, ObjectNotFound, httpx.HTTPError):
        return None
    return state is not None and state.is_final()


def hold_target(target: Connection, facts: Facts) -> None:
    """Take the lock on the target for this run, before a phase changes anything. Raises as lock.hold."""
    if taken_over := lock.hold(target, run_id(), run_is_over, mark=facts.installer_mark):
        say(taken_over)


def check_lock(target: Connection, facts: Facts) -> None:
    """Refuse a target that another run works on. Raises as lock.check."""
    lock.check(target, run_id(), run_is_over, mark=facts.installer_mark)


@contextmanager
def journaled(name: str) -> Iterator[Callable[[BaseModel], None]]:
    """Write an attempt at a phase into the journal, however it ends; the body hands its result to the value."""
    watch = Stopwatch(name, flow_run.get_run_count())
    results: list[BaseModel] = []
    try:
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
        name: the phase's name in the design, the UI and the report.
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


def reported(body: Callable[P, T]) -> Callable[P, "T | State[T]"]:
    """Let a flow end with its report, and an expected failure with one line instead of a traceback."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> "T | State[T]":
        watch = Stopwatch("run", flow_run.get_run_count())
        try:
            value = body(*args, **kwargs)
        except HoldfastError as error:
            journal().add(watch.entry("failed", error=str(error)))
            get_run_logger().error("%s", error.message)
            if error.hint:
                get_run_logger().error("Hint: %s", error.hint)
            return Failed(message=str(error))
        except BaseException as error:
            journal().add(watch.entry("failed", error=type(error).__name__))
            raise
        else:
            journal().add(watch.entry("done"))
            return value
        finally:
            _write_report()

    return run


def _write_report() -> None:
    """Write the report's file, and show it in the run's Artifacts."""
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host = str(flow_run.get_parameters()["host"])
    flow = str(flow_run.get_flow_name())
    report = assemble(run_id(), flow, host, journal().entries(), peak_rss_bytes=peak_kib * 1024)
    journal().report.write_text(report.model_dump_json(indent=2) + "\n")
    # A run may be started with any text for a host, and Prefect takes no other keys.
    key = f"report-{host if NAME.fullmatch(host) else 'unknown'}"
    create_markdown_artifact(report.to_markdown(), key=key, description="What this run did")
