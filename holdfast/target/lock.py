"""The lock on the target: it names the run that works there, so that no two do, from any worker or Prefect server.

It lies in the target's RAM (nix/scripts/any/lock.sh). A run that was killed never releases it. So Prefect is asked
whether the holder still works. If Prefect does not know, the time since the holder's last sign of life decides.
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

# A run renews its lock with each phase, and no phase is as long as this (copying the closure may take 4 h).
LEASE_S: Final = 6 * 3600
ANSWER_S: Final = 60
# How often another run may be quicker, between a look at the lock and taking it.
TRIES: Final = 3

_MAX_BYTES: Final = 4096
_EMPTY_IT: Final = f"empty the lock there, as root: `: >{LOCK}`"

IsOver = Callable[[str], bool | None]


class _Answer(Frozen):
    """What lock.sh prints.

    Attributes:
        lock: `none` if no run took it since the boot, `free` if somebody emptied the file, `held` if a run holds it,
            `broken` if the file is invalid.
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
    """A run that holds the target.

    Attributes:
        run_id: the run.
        how: how that is known; it follows `run ID` in a message.
        age_s: seconds since its last sign of life.
        locked: true if it took the lock; false if it only started the installer.

    """

    run_id: str
    how: str
    age_s: int
    locked: bool


def hold(target: Connection, run_id: str, is_over: IsOver, *, mark: InstallerMark | None) -> str:
    """Take the lock for this run, or renew it.

    Args:
        target: a connection to the target.
        run_id: this run.
        is_over: returns whether a run has ended; None if that is unknown.
        mark: the installer's mark: its run holds the installer until a run takes the lock there.

    Returns:
        A line for the log that says what was taken over and why; empty if nothing was.

    Raises:
        TargetRefused: another run works on the target, or may do so.
        UnexpectedState: the lock's file is invalid.

    """
    # If only the lock itself says whose the target is, to take it tells that too.
    claimed = mark is not None and mark.run_id and mark.run_id != run_id
    seen = _ask(target, "show") if claimed else _ask(target, "take", run_id)
    if not claimed and seen.lock == "held" and seen.run_id == run_id:
        return ""
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
        f"other runs took the lock on {target.endpoint.host} {TRIES} times meanwhile, last run {seen.run_id}.",
        hint="See in Prefect which runs this machine has, and let one of them finish.",
    )


def check(target: Connection, run_id: str, is_over: IsOver, *, mark: InstallerMark | None) -> None:
    """Refuse a target that another run works on. Changes nothing there. Arguments and errors: see `hold`."""
    holder = _holder(_ask(target, "show"), mark)
    if holder and holder.run_id != run_id:
        _why_over(target, holder, is_over)


def _ask(target: Connection, *words: str) -> _Answer:
    output = target.run_script(
        script("any/lock.sh"), words, timeout_s=ANSWER_S, max_output_bytes=_MAX_BYTES
    ).stdout.strip()
    host = target.endpoint.host
    try:
        answer = _Answer.model_validate_json(output)
    except ValidationError as error:
        raise UnexpectedState(
            f"{host} gave an invalid answer about its lock: {error.error_count()} errors in the output of lock.sh.",
            hint="Does a login there print text? `ssh TARGET true` must print nothing.",
        ) from None
    if answer.lock == "broken":
        raise UnexpectedState(
            f"{LOCK} on {host} is not a valid lock of Holdfast, so it is unknown which run holds {host}.",
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
    """Return why this run may take the target from its holder, as a line for the log.

    Raises:
        TargetRefused: it may not.

    """
    host = target.endpoint.host
    over = is_over(holder.run_id)
    if over:
        return f"taking over {host} from run {holder.run_id}, which has ended"
    if over is None and holder.age_s >= LEASE_S:
        return (
            f"taking over {host} from run {holder.run_id}: this Prefect server does not know it, and nothing was"
            f" heard from it for {_span(holder.age_s)}"
        )
    message = f"another run works on {host}: run {holder.run_id} {holder.how}."
    hint = "Wait for it, or cancel it in Prefect."
    if over is None:
        message = f"{message[:-1]}; this Prefect server does not know it, or does not answer."
        hint = f"Wait for it, or cancel it in the Prefect that runs it. If you are sure that it is gone, {_EMPTY_IT}."
    raise TargetRefused(message, hint=hint)


def _span(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
