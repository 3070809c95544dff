"""Shows a run while it goes on: a line for each thing that happens, as the run's log and Prefect tell it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from deployments.server import Server
from holdfast.base import clock
from holdfast.base.errors import Unreachable
from holdfast.base.text import duration, printable

EVERY_S: Final = 1.0
# The run continues without its server for some minutes, so this waits for it as long.
AWAY_S: Final = 600.0
# The last lines of a log come after the run's end: its process sends them every two seconds.
LAST_WORDS_S: Final = 4.0
# Lines of several processes come in any order, so each look goes back by this.
OVERLAP: Final = timedelta(seconds=10)
PAGE: Final = 200
ENDED: Final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

_DONE: Final = "Finished in state "
_BEFORE_TIME: Final = datetime.min.replace(tzinfo=UTC)
_Line = tuple[datetime, str]


class Watch:
    """What was shown of a run, and what is new.

    Args:
        server: the Prefect server, open.
        run_id: the run.
        show: takes each line.

    """

    def __init__(self, server: Server, run_id: str, show: Callable[[str], None]) -> None:
        self._server = server
        self._run_id = run_id
        self._show = show
        self._seen: set[str] = set()
        self._newest = _BEFORE_TIME
        self._last_word = False
        self._phases: dict[str, str] = {}
        self._said: dict[str, str] = {}

    def until_end(self) -> dict[str, Any]:
        """Show what happens until the run ends. Return the run.

        Raises:
            Unreachable: the server was away for AWAY_S seconds.
            HoldfastError: the server refuses, or the run was deleted.

        """
        answered, told = clock.monotonic(), False
        while True:
            try:
                run = self.look()
                answered, told = clock.monotonic(), False
            except Unreachable as error:
                if clock.monotonic() - answered > AWAY_S:
                    raise
                if not told:
                    self._show(f"{error.message} The run goes on without it; asking again …")
                    told = True
            else:
                if _type(run) in ENDED:
                    self._last_words()
                    return run
            clock.sleep(EVERY_S)

    def look(self) -> dict[str, Any]:
        """Show what is new, the oldest first. Return the run as it was before."""
        run = self._server.run(self._run_id)
        lines = [*self._phases_begun_and_ended(), *self._log(), *self._state(run)]
        for at, text in sorted(lines, key=lambda line: line[0]):
            for one in text.split("\n"):
                self._show(f"{at.astimezone():%H:%M:%S} {printable(one)}")
        return run

    def _last_words(self) -> None:
        ends = clock.monotonic() + LAST_WORDS_S
        try:
            while not self._last_word and clock.monotonic() < ends:
                clock.sleep(EVERY_S)
                self.look()
        except Unreachable:
            return  # the run has ended, which is what its watcher wants to know

    def _state(self, run: dict[str, Any]) -> Iterator[_Line]:
        state = run.get("state") or {}
        name, at = str(state.get("name")), _time(state.get("timestamp"))
        key = f"{name} {state.get('id')}"
        if self._said.get("run") == key:
            return
        self._said["run"] = key
        if _type(run) == "PAUSED":
            yield at, f"waits for a person: {self._server.run_url(self._run_id)}, there ⋮ and Resume"
        elif _type(run) not in ENDED:
            yield at, f"the run is {name}"

    def _phases_begun_and_ended(self) -> Iterator[_Line]:
        for task in self._server.task_runs(self._run_id):
            name, began = _phase(task), _time(task.get("start_time"))
            task_id = str(task.get("id"))
            self._phases[task_id] = name
            state = task.get("state") or {}
            told = self._said.get(task_id, "")
            attempt = int(task.get("run_count") or 0)
            if began > _BEFORE_TIME and not told:
                yield began, f"{name}: begins"
            now = f"{state.get('type')} {attempt}"
            self._said[task_id] = now if began > _BEFORE_TIME else ""
            if now != told and state.get("type") in ENDED:
                ended = _time(state.get("timestamp"))
                took = f" after {duration((ended - began).total_seconds())}" if began > _BEFORE_TIME else ""
                # Prefect's name says more than its type: a result that was kept is `Cached`.
                yield ended, f"{name}: {state.get('name')}{took}"

    def _log(self) -> Iterator[_Line]:
        since = "" if self._newest == _BEFORE_TIME else (self._newest - OVERLAP).isoformat()
        offset = 0
        while True:
            page = self._server.logs(self._run_id, since, offset, PAGE)
            yield from self._new(page)
            offset += len(page)
            if len(page) < PAGE:
                return

    def _new(self, page: list[dict[str, Any]]) -> Iterator[_Line]:
        for record in page:
            record_id, at = str(record.get("id")), _time(record.get("timestamp"))
            if record_id in self._seen:
                continue
            self._seen.add(record_id)
            self._newest = max(self._newest, at)
            text, task_id = str(record.get("message")), record.get("task_run_id")
            if text.startswith(_DONE):
                # Said already by the task's own end; and by the run's last line.
                self._last_word = self._last_word or not task_id
                continue
            level = int(record.get("level") or 0)
            grave = "ERROR: " if level >= 40 else "WARNING: " if level >= 30 else ""
            prefix = f"{self._phases[task_id]}: " if task_id in self._phases else ""
            yield at, "\n".join(f"{prefix}{grave}{line}" for line in text.split("\n"))


def _type(run: dict[str, Any]) -> str:
    return str((run.get("state") or {}).get("type"))


def _phase(task: dict[str, Any]) -> str:
    """Return a phase's name: Prefect adds three characters to a task's, to tell its runs apart."""
    name = str(task.get("name"))
    return name.rpartition("-")[0] or name


def _time(value: object) -> datetime:
    try:
        at = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return _BEFORE_TIME
    return at if at.tzinfo else at.replace(tzinfo=UTC)
