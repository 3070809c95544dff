"""Long work on the target as a transient systemd unit, which continues when the link drops.

Measured: the name of an ended unit stays taken until `reset-failed`; the journal gives lines and status also after a
reconnect.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from holdfast.base import clock
from holdfast.base.command import CommandResult
from holdfast.base.deadline import Deadline
from holdfast.base.errors import CommandFailed, DeadlinePassed, UnexpectedState, Unreachable
from holdfast.base.settings import script
from holdfast.base.text import LONGEST_LINE, printable
from holdfast.base.waiting import wait_for
from holdfast.ssh.connection import Connection
from holdfast.target.units import (
    ASK_TIMEOUT_S,
    PROPERTIES,
    Condition,
    Unit,
    UnitState,
    find_work,
    list_units,
    parse_journal,
    parse_state,
    unit_name,
    unit_state,
)

POLL_S: Final = 1.0
KEPT_LINES: Final = 2000
# Lines in one look, so that a unit which floods its journal does not fill the memory here.
LINES_A_LOOK: Final = 1000
_SPLIT: Final = "-- journal --"


class Step(StrEnum):
    """What to do about a unit of this name."""

    START = "start"
    RESET_AND_START = "reset and start"
    FOLLOW = "follow"


def next_step(state: UnitState, *, ours: bool, failed_before: str | None) -> Step:
    """Decide what to do after a look at the unit.

    Args:
        state: what was seen.
        ours: whether it was seen running, or started, by this call already.
        failed_before: the invocation that had failed before this call tried to start it, if any.

    Raises:
        UnexpectedState: it was there and is gone.

    """
    if state.condition is Condition.ABSENT:
        if ours:
            raise _gone("The unit")
        return Step.START
    if state.condition is Condition.FAILED and not ours:
        # A start whose answer got lost may have failed already: that one counts, and is not tried again.
        return Step.RESET_AND_START if failed_before in (None, state.invocation) else Step.FOLLOW
    return Step.FOLLOW


def _gone(what: str) -> UnexpectedState:
    return UnexpectedState(
        f"{what} is gone: the target has rebooted, or somebody stopped it.",
        hint="Retry the run when the target answers: it looks at what it finds there, and goes on from that.",
    )


def run_detached(
    reconnect: Callable[[], Connection],
    name: str,
    argv: Sequence[str],
    *,
    work: str,
    timeout_s: float,
    on_line: Callable[[str], None],
    env: Mapping[str, str] = MappingProxyType({}),
    begun: bool = False,
) -> CommandResult:
    """Run a command as the unit `name` and follow it to its end, over as many links as that takes.

    A unit of any run that does this work already is joined; if it succeeded it is not run again, only read. If it
    failed it is run again. Other work that still runs is waited for first.

    Args:
        reconnect: opens a connection; called again whenever the link broke.
        name: the unit, without `.service`; one name stands for one piece of work of one run.
        argv: the command; visible on the target, so never a secret.
        work: what it does and to what, the same for every run that would do the same; the unit's Description.
        timeout_s: seconds until it has to be over, reconnecting and waiting for other work included.
        on_line: called with each line that it writes.
        env: more environment for it; visible on the target, so never a secret.
        begun: whether has_begun saw this work, so that nothing was prepared for a start: it is only followed.

    Returns:
        Its result, both outputs in `stdout`, of which the last KEPT_LINES lines are kept.

    Raises:
        CommandFailed: it ended with another status than 0.
        DeadlinePassed: it, or other work, did not end in time, or the link did not come back; both are left running.
        UnexpectedState: it vanished.

    """
    followed = _Work(unit_name(name), tuple(argv), work, on_line, dict(env), begun=begun)
    deadline = Deadline.after(timeout_s)
    while True:
        target = wait_for(f"a connection, to follow {name}", reconnect, deadline_s=deadline.left_s())
        try:
            with target:
                return followed.follow(target, deadline)
        except DeadlinePassed:
            if deadline.passed():
                raise
        except Unreachable as error:
            goes_on = f"{name} runs on; " if followed.ours else ""
            on_line(f"{error.message} {goes_on}connecting again.")


class _Work:
    """What is known about the unit while links come and go; `ours` once it was seen."""

    def __init__(
        self,
        unit: str,
        argv: tuple[str, ...],
        work: str,
        on_line: Callable[[str], None],
        env: dict[str, str],
        *,
        begun: bool,
    ) -> None:
        self._unit = unit
        self._argv = argv
        self._work = work
        self._on_line = on_line
        self._env = env
        self._begun = begun
        self.ours = False
        self._failed_before: str | None = None
        self._cursor = ""
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._began = clock.monotonic()

    def follow(self, target: Connection, deadline: Deadline) -> CommandResult:
        """Start or join the unit, and read its journal until it ended."""
        if not self.ours:
            self._find(target, deadline)
        state = unit_state(target, self._unit)
        step = next_step(state, ours=self.ours, failed_before=self._failed_before)
        if step is not Step.FOLLOW:
            self._start(target, state, step)
        self.ours = True
        while True:
            state, more = self._look(target)
            if more:
                continue
            if state.condition is Condition.ABSENT:
                next_step(state, ours=True, failed_before=None)
            if state.condition is not Condition.RUNNING:
                return self._ended(target, state)
            if deadline.passed():
                raise DeadlinePassed(
                    f"{self._unit} on {target.endpoint} did not end within {deadline.allowed_s:g} s; "
                    f"last line: {self._lines[-1] if self._lines else '(none)'}.",
                    hint="It still runs there. Running the phase again joins it.",
                )
            clock.sleep(min(POLL_S, deadline.left_s()))

    def _find(self, target: Connection, deadline: Deadline) -> None:
        """Join the unit that does, or did, this work; else see that nothing else runs."""
        waited_for = ""
        while True:
            units = list_units(target)
            same = find_work(units, self._work)
            other = next((unit for unit in units if unit.state.condition is Condition.RUNNING and unit != same), None)
            running = same is not None and same.state.condition is Condition.RUNNING
            if running or other is None:
                break
            if other.name != waited_for:
                waited_for = other.name
                self._on_line(
                    f"{other.name} still runs there ({printable(other.work[:LONGEST_LINE])}); waiting for its end."
                )
            if deadline.passed():
                raise DeadlinePassed(
                    f"{other.name} on {target.endpoint} did not end within {deadline.allowed_s:g} s.",
                    hint=f"`journalctl -u {other.name}` there says what it does. Retry when it has ended.",
                )
            clock.sleep(min(POLL_S, deadline.left_s()))
        if same and (self._begun or same.state.condition is not Condition.FAILED):
            if same.name != self._unit:
                self._on_line(f"{same.name} of another run does this work; following it.")
            self._unit, self.ours = same.name, True
        elif self._begun:
            raise _gone(f"What was seen to do this work ({printable(self._work)})")
        else:
            self._forget(target, units)

    def _forget(self, target: Connection, units: Sequence[Unit]) -> None:
        """Unload what succeeded at other work of this kind: this work undoes it, and it has to be done anew then."""
        kind = self._unit.rpartition("-")[0]
        for unit in units:
            if unit.kind == kind and unit.state.condition is Condition.SUCCEEDED:
                target.run(["systemctl", "stop", unit.name], timeout_s=ASK_TIMEOUT_S)

    def _start(self, target: Connection, state: UnitState, step: Step) -> None:
        if step is Step.RESET_AND_START:
            self._failed_before = state.invocation
            target.run(["systemctl", "reset-failed", self._unit], timeout_s=ASK_TIMEOUT_S)
        options = [f"--description={self._work}", *(f"--setenv={key}={value}" for key, value in self._env.items())]
        target.run(
            ["sh", "-c", script("any/unit-start.sh"), "unit-start.sh", self._unit, *options, "--", *self._argv],
            timeout_s=ASK_TIMEOUT_S,
        )

    def _look(self, target: Connection) -> tuple[UnitState, bool]:
        """Read state and new lines; true if there may be more lines at once."""
        argv = ["sh", "-c", script("any/unit-look.sh"), "unit-look.sh"]
        argv += [self._unit, self._cursor, str(LINES_A_LOOK), PROPERTIES]
        shown, _, journal = target.run(argv, timeout_s=ASK_TIMEOUT_S).stdout.partition(f"{_SPLIT}\n")
        state = parse_state(shown)
        entries = parse_journal(journal)
        for entry in entries:
            self._cursor = entry.cursor
            # Earlier runs of the unit, and systemd's own words about it, are in the same journal.
            if entry.invocation and entry.invocation == state.invocation:
                self._lines.append(entry.text)
                self._on_line(entry.text)
        return state, len(entries) >= LINES_A_LOOK

    def _ended(self, target: Connection, state: UnitState) -> CommandResult:
        result = CommandResult(
            argv=self._argv,
            host=target.endpoint.host,
            exit_status=state.exit_status,
            stdout="".join(f"{line}\n" for line in self._lines),
            stderr="",
            duration_s=clock.monotonic() - self._began,
        )
        if state.condition is Condition.FAILED:
            raise CommandFailed(
                result, hint=f"On the target, `journalctl -u {self._unit}` has it all ({state.result})."
            )
        return result
