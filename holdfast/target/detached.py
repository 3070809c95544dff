"""Long work on the target, as a transient systemd unit that continues when the link drops.

Measured: the name of an ended unit stays taken until `reset-failed`. After a reconnect, the journal still has the
unit's lines, and systemd its status.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from holdfast.base import brake, clock
from holdfast.base.command import CommandResult
from holdfast.base.deadline import Deadline, or_raise
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
)

POLL_S: Final = 1.0
# A look waits there so long for the unit to end: its lines are shown no later.
LOOK_WAITS_S: Final = 4
KEPT_LINES: Final = 2000
# Lines read in one look, so that a unit that floods its journal does not fill the memory here.
LINES_A_LOOK: Final = 1000
_SPLIT: Final = "-- journal --"


class Step(StrEnum):
    """What to do about a unit of this name."""

    START = "start"
    RESET_AND_START = "reset and start"
    FOLLOW = "follow"


def next_step(state: UnitState, *, ours: bool, failed_before: str | None) -> Step:
    """Decide what to do next about the unit.

    Args:
        state: what was seen now.
        ours: whether this call has already started the unit, or seen it running.
        failed_before: the invocation that had failed before this call tried to start the unit, if any.

    Raises:
        UnexpectedState: the unit was there and is gone.

    """
    if state.condition is Condition.ABSENT:
        if ours:
            raise _gone("The unit")
        return Step.START
    if state.condition is Condition.FAILED and not ours:
        # A start whose answer was lost may have failed already. That failure counts: the unit is not started again.
        return Step.RESET_AND_START if failed_before in (None, state.invocation) else Step.FOLLOW
    return Step.FOLLOW


def _gone(what: str) -> UnexpectedState:
    return UnexpectedState(
        f"{what} is gone: the target has rebooted, or somebody stopped it.",
        hint="Retry the run when the target answers. It continues from what it finds there.",
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
    """Run a command as the unit `name` and follow it to its end. Reconnect as often as needed.

    If a unit of any run does this work already, follow that one. If one has succeeded at it, only read its journal. If
    one has failed at it, run it again. If other work still runs, wait for its end first.

    Args:
        reconnect: opens a connection; called again whenever the link broke.
        name: the unit, without `.service`; one name stands for one piece of work of one run.
        argv: the command; visible on the target, so never a secret.
        work: what it does and to what, the same for every run that would do the same; the unit's Description.
        timeout_s: seconds until it has to be over, including reconnecting and waiting for other work.
        on_line: called with each line that it writes, and with what happens to the link.
        env: more environment for it; visible on the target, so never a secret.
        begun: whether has_begun saw this work. Then nothing was prepared for a start, and the work is only followed.

    Returns:
        Its result. Both outputs are in `stdout`, of which the last KEPT_LINES lines are kept.

    Raises:
        CommandFailed: it ended with a status other than 0.
        DeadlinePassed: it, or other work, did not end in time, or the link did not return. Both are left running.
        UnexpectedState: the unit vanished.
        Stopped: the run is cancelled. What was started continues there, by itself.

    """
    followed = _Work(unit_name(name), tuple(argv), work, on_line, dict(env), begun=begun)
    deadline = Deadline.after(timeout_s)
    while True:
        target = wait_for(f"a connection to follow {name}", reconnect, deadline_s=deadline.left_s())
        try:
            with target:
                return followed.follow(target, deadline)
        except DeadlinePassed:
            if deadline.passed():
                raise
        except Unreachable as error:
            continues = f"{name} keeps running; " if followed.ours else ""
            on_line(f"{error.message} {continues}connecting again, for at most {deadline.left_s():.0f} s.")


class _Work:
    """What is known about the unit while links come and go. `ours` is true once it was started here, or seen."""

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
        """Start or join the unit, and read its journal until it has ended."""
        if not self.ours:
            state = self._find(target, deadline)
            step = next_step(state, ours=self.ours, failed_before=self._failed_before)
            if step is not Step.FOLLOW:
                self._start(target, state, step)
            self.ours = True
        more = False
        while True:
            began = clock.monotonic()
            state, more = self._look(target, waits_s=0 if more else min(LOOK_WAITS_S, int(deadline.left_s())))
            if more:
                brake.check()
                continue
            if state.condition is Condition.ABSENT:
                next_step(state, ours=True, failed_before=None)
            if state.condition is not Condition.RUNNING:
                return self._ended(target, state)
            if deadline.passed():
                raise DeadlinePassed(
                    f"{self._unit} on {target.endpoint} did not end within {deadline.allowed_s:g} s; "
                    f"last line: {self._lines[-1] if self._lines else '(none)'}.",
                    hint=f"It still runs there. A retry of the run joins it.{or_raise(deadline.allowed_s)}",
                )
            brake.check()
            clock.sleep(max(0.0, min(began + POLL_S - clock.monotonic(), deadline.left_s())))

    def _find(self, target: Connection, deadline: Deadline) -> UnitState:
        """Join the unit that does, or did, this work. If there is none, wait until nothing else runs.

        Returns:
            The state of the unit to start or to follow.

        """
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
                    f"{other.name} still runs there ({printable(other.work[:LONGEST_LINE])}); waiting for it to end, at"
                    f" most {deadline.left_s():.0f} s"
                )
            if deadline.passed():
                raise DeadlinePassed(
                    f"{other.name} on {target.endpoint} did not end within {deadline.allowed_s:g} s.",
                    hint=f"There, `journalctl -u {other.name}` shows what it does. Retry the run when it has ended.",
                )
            brake.check()
            clock.sleep(min(POLL_S, deadline.left_s()))
        if same and (self._begun or same.state.condition is not Condition.FAILED):
            if same.name != self._unit:
                self._on_line(f"{same.name} of another run does this work; following it.")
            self._unit, self.ours = same.name, True
        elif self._begun:
            raise _gone(f"The unit that did this work ({printable(self._work)})")
        else:
            self._forget(target, units)
        named = (unit.state for unit in units if unit.name == self._unit)
        return next(named, UnitState(Condition.ABSENT))

    def _forget(self, target: Connection, units: Sequence[Unit]) -> None:
        """Unload units that succeeded at other work of this kind. This work undoes theirs, so theirs may not count."""
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

    def _look(self, target: Connection, *, waits_s: int) -> tuple[UnitState, bool]:
        """Read the unit's state and new lines. Return the state, and whether more lines may be waiting.

        While the unit runs, the target waits before it answers, at most `waits_s` seconds.
        """
        argv = ["sh", "-c", script("any/unit-look.sh"), "unit-look.sh"]
        argv += [self._unit, self._cursor, str(LINES_A_LOOK), PROPERTIES, str(waits_s)]
        shown, _, journal = target.run(argv, timeout_s=ASK_TIMEOUT_S).stdout.partition(f"{_SPLIT}\n")
        state = parse_state(shown)
        entries = parse_journal(journal)
        for entry in entries:
            self._cursor = entry.cursor
            # Lines of the unit's earlier runs, and systemd's own lines about it, are in the same journal.
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
                result,
                hint=f"On the target, `journalctl -u {self._unit}` shows all of it (systemd's result: {state.result}).",
            )
        return result
