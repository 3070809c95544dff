"""The lock on the target: which run works there, so that no two do, on whatever worker or Prefect server they run.

It lies in the target's RAM (nix/scripts/any/lock.sh). A run that was killed never gives it back: so whether its holder
still works is asked of Prefect, and where Prefect does not know it, told by how long nothing was heard of it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from holdfast.base.errors import TargetRefused, UnexpectedState
from holdfast.base.frozen import Frozen
from holdfast.base.places import LOCK
from holdfast.base.settings import script
from holdfast.facts.marks import InstallerMark
from holdfast.ssh.connection import Connection

# A run renews its lock with each phase; none is as long as this (the closure's copy has 4 h).
LEASE_S: Final = 6 * 3600
TIMEOUT_S: Final = 60
# How often others may be quicker between a look and a take.
TRIES: Final = 3

_MAX_BYTES: Final = 4096
_EMPTY_IT: Final = f"empty the lock there, as root: `: >{LOCK}`"

IsOver = Callable[[str], bool | None]


class _Answer(Frozen):
    """What lock.sh prints.

    Attributes:
        lock: `none` if nobody took it since the boot, `free` if somebody emptied the file, `broken` if it is no lock.
        run_id: the run that holds it; empty if none does.
        since: when that run took it, in seconds since 1970 on the target's clock.
        renewed: when it renewed it last, likewise.
        age_s: seconds since then, by the target's uptime.
        up_s: seconds since the target booted.

    """

    model_config = ConfigDict(strict=True)

    lock: Literal["none", "free", "held", "broken"]
    run_id: str = Field(pattern=r"^[A-Za-z0-9-]{0,64}$")
    since: int = Field(ge=0, lt=10**12)
    renewed: int = Field(ge=0, lt=10**12)
    age_s: int = Field(ge=0, lt=10**12)
    up_s: int = Field(ge=0, lt=10**12)


@dataclass(frozen=True, slots=True)
class _Holder:
    """A run that holds the target, how it is known (half a sentence), and seconds since it was heard of."""

    run_id: str
    how: str
    age_s: int
    locked: bool


def hold(target: Connection, run_id: str, is_over: IsOver, *, mark: InstallerMark | None) -> str:
    """Take the lock for this run, or renew it.

    Args:
        target: a connection to the target.
        run_id: this run.
        is_over: says whether a run has ended; None if it is not known.
        mark: the installer's mark, whose run holds the installer until somebody took the lock in it.

    Returns:
        What was taken over, and why, as a line for people; empty if nothing was.

    Raises:
        TargetRefused: another run works on the target, or may do so.
        UnexpectedState: the lock's file is broken.

    """
    seen = _ask(target, "show")
    for _ in range(TRIES):
        holder = _holder(seen, mark)
        taken_over = ""
        instead: list[str] = []
        if holder and holder.run_id != run_id:
            taken_over = _why_over(target, holder, is_over)
            instead = ["--instead-of", holder.run_id] if holder.locked else []
        seen = _ask(target, "take", run_id, *instead)
        if seen.lock == "held" and seen.run_id == run_id:
            return taken_over
    raise TargetRefused(
        f"the lock on {target.endpoint.host} changed hands {TRIES} times, last to run {seen.run_id}.",
        hint="See which runs Prefect has for this machine, and let one of them finish.",
    )


def check(target: Connection, run_id: str, is_over: IsOver, *, mark: InstallerMark | None) -> None:
    """Refuse a target that another run works on; changes nothing there. Arguments and errors as of `hold`."""
    holder = _holder(_ask(target, "show"), mark)
    if holder and holder.run_id != run_id:
        _why_over(target, holder, is_over)


def _ask(target: Connection, *words: str) -> _Answer:
    output = target.run_script(
        script("any/lock.sh"), words, timeout_s=TIMEOUT_S, max_output_bytes=_MAX_BYTES
    ).stdout.strip()
    host = target.endpoint.host
    try:
        answer = _Answer.model_validate_json(output)
    except ValidationError as error:
        raise UnexpectedState(
            f"{host} did not say who holds its lock: {error.error_count()} faults in the answer of lock.sh.",
            hint="Does its login print something of its own? `ssh TARGET true` has to be silent.",
        ) from None
    if answer.lock == "broken":
        raise UnexpectedState(
            f"{LOCK} on {host} is no lock that Holdfast wrote, so it is not known which run holds {host}.",
            hint=f"If no run works on it, {_EMPTY_IT}, and retry.",
        )
    return answer


def _holder(seen: _Answer, mark: InstallerMark | None) -> _Holder | None:
    if seen.lock == "held":
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seen.since))
        return _Holder(seen.run_id, f"holds the lock since {since} UTC, by its clock", seen.age_s, locked=True)
    if seen.lock == "none" and mark and mark.run_id:
        return _Holder(mark.run_id, f"started the installer that runs, {_span(seen.up_s)} ago", seen.up_s, locked=False)
    return None


def _why_over(target: Connection, holder: _Holder, is_over: IsOver) -> str:
    """Say why the target may be taken from its holder.

    Raises:
        TargetRefused: it may not.

    """
    host = target.endpoint.host
    over = is_over(holder.run_id)
    if over:
        return f"takes over {host} from run {holder.run_id}, which is over"
    if over is None and holder.age_s >= LEASE_S:
        return (
            f"takes over {host} from run {holder.run_id}, which this Prefect server does not know, and of which nothing"
            f" was heard for {_span(holder.age_s)}"
        )
    message = f"another run works on {host}: run {holder.run_id} {holder.how}."
    hint = "Wait for it, or cancel it in Prefect."
    if over is None:
        message = f"{message[:-1]}; this Prefect server does not know it, or does not answer."
        hint = f"Wait for it, or cancel it in the Prefect that runs it. If it is surely gone, {_EMPTY_IT}."
    raise TargetRefused(message, hint=hint)


def _span(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
