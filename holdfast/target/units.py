"""Holdfast's systemd units on the target: what each does, its state, and what it wrote to the journal.

Measured: without RemainAfterExit, a unit that succeeded and one that never started look the same. So LoadState and
ExecMainCode are read before the status.

A unit is named after its run, and its Description says what work it does. So a new run, on any worker, finds the work
that another run left running, and does not begin it twice.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from holdfast.base.errors import ConfigError
from holdfast.base.text import LONGEST_LINE, printable
from holdfast.ssh.connection import Connection

ASK_TIMEOUT_S: Final = 60

PROPERTIES: Final = "LoadState,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,InvocationID"
# The units of all runs; `Transient` tells them from those of the installer's image.
_PATTERN: Final = "holdfast-*.service"
_LISTED: Final = f"Id,Description,Transient,{PROPERTIES}"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
# It goes back to the target as an argument. Its content is opaque (systemd.journal-fields(7)).
_CURSOR: Final = re.compile(r"[!-~]{1,1000}")


class Condition(StrEnum):
    """What a unit is doing."""

    ABSENT = "absent"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class UnitState:
    """A unit, as systemd describes it.

    Attributes:
        condition: what it is doing.
        exit_status: of its command; 128 + signal if a signal ended it; 255 if it never ran; 0 until it ends.
        invocation: systemd's id of this run of the unit; "" if it is absent.
        result: systemd's own word, such as `exit-code`, `signal`, `oom-kill`.

    """

    condition: Condition
    exit_status: int = 0
    invocation: str = ""
    result: str = ""


def parse_state(shown: str) -> UnitState:
    """Read the output of `systemctl show`: `Key=value` lines."""
    values = _values(shown)
    active, sub = values.get("ActiveState", ""), values.get("SubState", "")
    code, status = _number(values.get("ExecMainCode")), _number(values.get("ExecMainStatus"))
    invocation, result = (printable(values.get(key, "")[:64]) for key in ("InvocationID", "Result"))
    if values.get("LoadState") != "loaded":
        return UnitState(Condition.ABSENT)
    if active in ("activating", "deactivating", "reloading") or (active == "active" and sub != "exited"):
        return UnitState(Condition.RUNNING, 0, invocation, result)
    if active == "inactive" and code == 0:
        # Loaded and never started: Result and ExecMainStatus would look like a success.
        return UnitState(Condition.ABSENT)
    # CLD_EXITED is 1, CLD_KILLED 2, CLD_DUMPED 3 (waitid(2)).
    ended = {1: status, 2: 128 + status, 3: 128 + status}.get(code, 255)
    fine = ended == 0 and active != "failed"
    return UnitState(Condition.SUCCEEDED if fine else Condition.FAILED, ended or (not fine) * 255, invocation, result)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of a run.

    Attributes:
        name: with `.service`.
        work: what it does; its Description.
        state: its state.

    """

    name: str
    work: str
    state: UnitState

    @property
    def kind(self) -> str:
        """Its name without the run's id: what kind of work it does."""
        return self.name.rpartition("-")[0]


def parse_units(shown: str) -> list[Unit]:
    """Read the output of `systemctl show` for several units: blocks of `Key=value` lines. Skip units of no run."""
    units = []
    for block in shown.split("\n\n"):
        values = _values(block)
        name, work = values.get("Id", ""), values.get("Description", "")
        if values.get("Transient") == "yes" and name.endswith(".service") and _NAME.fullmatch(name):
            units.append(Unit(name, work, parse_state(block)))
    return units


def find_work(units: Sequence[Unit], work: str) -> Unit | None:
    """Return the unit that does this work now, else one that has done it, else one that failed at it."""
    for condition in (Condition.RUNNING, Condition.SUCCEEDED, Condition.FAILED):
        for unit in units:
            if unit.work == work and unit.state.condition is condition:
                return unit
    return None


def has_begun(target: Connection, work: str) -> bool:
    """Return whether a unit of any run does this work, or has done it. Raises as Connection.run."""
    unit = find_work(list_units(target), work)
    return unit is not None and unit.state.condition is not Condition.FAILED


def list_units(target: Connection) -> list[Unit]:
    """Return the loaded units of all runs. Raises as Connection.run."""
    argv = ["systemctl", "show", "--all", f"--property={_LISTED}", _PATTERN]
    return parse_units(target.run(argv, timeout_s=ASK_TIMEOUT_S).stdout)


def _values(shown: str) -> dict[str, str]:
    # At newlines only: str.splitlines splits at more characters, with which one property could forge another.
    return dict(line.split("=", 1) for line in shown.split("\n") if "=" in line)


def _number(text: str | None) -> int:
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text) else 0


@dataclass(frozen=True, slots=True)
class JournalLine:
    """A line of the journal.

    Attributes:
        cursor: its place in the journal; the next look continues after it.
        text: the message, with control characters escaped.
        invocation: which start of the unit wrote it; "" for a line of systemd itself.

    """

    cursor: str
    text: str
    invocation: str


def parse_journal(output: str) -> list[JournalLine]:
    """Read the output of `journalctl -o json`. An invalid line is skipped."""
    entries = []
    # At newlines only: a message may hold other characters at which str.splitlines splits.
    for line in output.split("\n"):
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            continue
        cursor = fields.get("__CURSOR") if isinstance(fields, dict) else None
        if not isinstance(cursor, str) or not _CURSOR.fullmatch(cursor):
            continue
        message = fields.get("MESSAGE")
        if isinstance(message, list):
            # A message that is not valid text comes as a list of bytes.
            message = bytes(code & 0xFF for code in message if isinstance(code, int)).decode("utf-8", "replace")
        text = printable(message[:LONGEST_LINE]) if isinstance(message, str) else ""
        invocation = fields.get("_SYSTEMD_INVOCATION_ID")
        entries.append(JournalLine(cursor, text, printable(invocation[:64]) if isinstance(invocation, str) else ""))
    return entries


def unit_state(target: Connection, name: str) -> UnitState:
    """Return the state of a unit. Raises as Connection.run."""
    shown = target.run(["systemctl", "show", unit_name(name), f"--property={PROPERTIES}"], timeout_s=ASK_TIMEOUT_S)
    return parse_state(shown.stdout)


def unit_name(name: str) -> str:
    """Return a name as systemd knows it, with `.service`.

    Raises:
        ConfigError: the name is invalid.

    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a name for a unit.", hint="Use letters, digits, `-`, `_` and `.`.")
    return name if name.endswith(".service") else f"{name}.service"
