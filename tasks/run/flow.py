"""Makes a flow a run of phases: it begins in time, it ends with a report, and an expected failure is one line."""

import functools
import resource
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from holdfast.base.brake import Stopped
from holdfast.base.errors import HoldfastError
from holdfast.base.settings import settings
from holdfast.inventory.host import NAME, Host
from holdfast.nixcli.kept import changed_since
from holdfast.plan.outlook import in_words
from holdfast.plan.plan import Plan
from holdfast.plan.until import Until
from holdfast.ssh.keeping import keeping
from tasks.run.folders import prune
from tasks.run.journal import Stopwatch
from tasks.run.lateness import too_late
from tasks.run.log import RunLog, reporting_to
from tasks.run.report import assemble
from tasks.run.stopping import WAY_ON, stopped_after
from tasks.run.this_run import journal, run_id

P = ParamSpec("P")
T = TypeVar("T")

INSTALLED_ALREADY: Final = "Installed already"
STOPPED_AS_ASKED: Final = "Stopped as asked"


def reported(body: Callable[P, T]) -> Callable[P, "T | State[T]"]:
    """Write a report when the flow ends, and log an expected failure as one line instead of a traceback.

    A run that begins too late, or that is cancelled, ends as Cancelled: no success, and nothing to mend.
    """

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> "T | State[T]":
        watch = Stopwatch("run", flow_run.get_run_count())
        try:
            if late := too_late():
                raise Stopped(late)
            _begin()
            with keeping():
                value = body(*args, **kwargs)
        except Stopped as stopped:
            journal().add(watch.entry("cancelled", error=str(stopped)))
            get_run_logger().warning("%s", stopped)
            return Cancelled(message=str(stopped))
        except _StoppedAsAsked as stopped:
            journal().add(watch.entry("stopped", result={"said": str(stopped)}))
            get_run_logger().info("%s", stopped)
            return Completed(name=STOPPED_AS_ASKED, message=str(stopped))
        except HoldfastError as error:
            journal().add(watch.entry("failed", error=str(error)))
            get_run_logger().error("%s", error.message)
            if error.hint:
                get_run_logger().error("Hint: %s", error.hint)
            return Failed(message=str(error))
        except TerminationSignal:
            journal().add(watch.entry("cancelled", error=_last_words()))
            get_run_logger().warning("%s", _last_words())
            raise
        except BaseException as error:
            journal().add(watch.entry("failed", error=type(error).__name__))
            raise
        else:
            said = value.message if isinstance(value, State) else None
            journal().add(watch.entry("done", result={"said": said} if said else None))
            return value
        finally:
            _write_report()

    return run


class _StoppedAsAsked(Exception):
    """The run was asked to stop here; the text says where the machine is."""


def stop_after(phase: Until, host: Host, plan: Plan) -> None:
    """End the run here, if it was asked to stop after this phase."""
    if plan.until == phase:
        with RunLog(journal().output, get_run_logger()) as log, reporting_to(log):
            raise _StoppedAsAsked(stopped_after(phase, host, plan))


def ended(plan: Plan) -> State[None]:
    """Return how a run ends that leaves a machine in use as it is: well, with a name that Prefect shows everywhere."""
    return Completed(name=INSTALLED_ALREADY, message=f"{in_words(plan)}.")


def _begin() -> None:
    """Remove the folders of old runs; if this run starts again, say which flakes have changed since it locked them."""
    mine = journal()
    mine.report.unlink(missing_ok=True)  # it has not ended
    prune(mine.folder.parent, keep=settings().runs_keep, mine=run_id())
    for lock in changed_since(mine.folder) if flow_run.get_run_count() > 1 else ():
        get_run_logger().warning(
            "the flake %s has changed since this run locked it (%s): a Retry uses what was locked, a fresh run what is"
            " there now",
            lock.flake,
            lock.short,
        )


def _last_words() -> str:
    """Return what the phase said that was stopped by a signal to this process; less, if no phase was running."""
    told = [entry.error for entry in journal().entries() if entry.outcome == "cancelled" and entry.phase != "run"]
    return f"the run's process was told to end: {told[-1] if told else WAY_ON}"


def _write_report() -> None:
    """Write the report to its file, and show it in the run's Artifacts."""
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host = str(flow_run.get_parameters()["host"])
    flow = str(flow_run.get_flow_name())
    report = assemble(run_id(), flow, host, journal().entries(), peak_rss_bytes=peak_kib * 1024)
    journal().report.write_text(report.model_dump_json(indent=2) + "\n")
    # A run may be started with any text for a host, and Prefect refuses keys with other characters.
    key = f"report-{host if NAME.fullmatch(host) else 'unknown'}"
    create_markdown_artifact(report.to_markdown(), key=key, description=report.in_short())
