"""Judges the way back: the rows of the plan's section of that name, and the refusal of what would strand a machine."""

from typing import Final

from holdfast.base.errors import TargetRefused
from holdfast.facts.way_back import WayBackFacts
from holdfast.inventory.host import Host, Way
from holdfast.plan.way_back.origin import origin_rows
from holdfast.plan.way_back.row import Verdict, WayBackRow
from holdfast.plan.way_back.watchdog import watchdog_rows

MAY_NOT_RETURN: Final = "origin-may-not-return"


def judge_way_back(back: WayBackFacts | None, host: Host, *of_new_system: WayBackRow) -> tuple[WayBackRow, ...]:
    """Return what was seen of the way back, what strands the machine first.

    Args:
        back: what its origin shows; None if the origin does not run.
        host: the host.
        of_new_system: what is known of the new disk and the new system.

    """
    rows = [*(origin_rows(back, host) if back else ()), *of_new_system]
    rows += watchdog_rows(back.watchdog, host) if back else ()
    worst_first = (Verdict.STRANDS, Verdict.UNPROVED, Verdict.FINE)
    return tuple(sorted(rows, key=lambda row: worst_first.index(row.verdict)))


def check_way_back(rows: tuple[WayBackRow, ...], host: Host) -> None:
    """Refuse a machine that would not come back from the installer by itself.

    The standard way is not refused: there only a person at the machine brings the origin back anyway.

    Raises:
        TargetRefused: it would be stranded, and the inventory does not allow that.

    """
    stranding = [row for row in rows if row.verdict is Verdict.STRANDS]
    if not stranding or host.way is Way.STANDARD or MAY_NOT_RETURN in host.allow:
        return
    why = "; ".join(f"{row.seen}, so {row.means}" for row in stranding)
    hints = " ".join(dict.fromkeys(row.hint for row in stranding if row.hint))
    raise TargetRefused(
        f"{host.name} would not come back if the install stops: {why}.",
        hint=f'{hints} If somebody can reach its console, add "{MAY_NOT_RETURN}" to allow in the inventory.'.lstrip(),
    )


def warned_of(rows: tuple[WayBackRow, ...]) -> tuple[str, ...]:
    """Return the rows that a person should know of, one line each."""
    return tuple(row.in_one_line() for row in rows if row.verdict is not Verdict.FINE)
