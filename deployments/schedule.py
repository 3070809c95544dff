"""A host's schedule as Prefect knows it."""

import asyncio
from pathlib import Path

from prefect.client.schemas.schedules import CronSchedule
from prefect.server.schemas.schedules import CronSchedule as ServersCronSchedule
from pydantic import ValidationError

from holdfast.base.errors import ConfigError
from holdfast.base.text import printable
from holdfast.inventory.host import Host


def schedule_of(host: Host) -> CronSchedule | None:
    """Return the schedule for Prefect; None if the host has none."""
    if host.schedule is None:
        return None
    return CronSchedule(cron=host.schedule.cron, timezone=host.schedule.timezone)


def check_schedule(inventory: Path, host: Host) -> None:
    """Let Prefect's own parser read the schedule and find its next moment, as its server will.

    The inventory has checked it already, with another parser, which takes a few lines that Prefect does not.

    Raises:
        ConfigError: Prefect does not understand it, or finds no such moment.

    """
    if host.schedule is None:
        return
    cron, timezone = host.schedule.cron, host.schedule.timezone
    try:
        moments = asyncio.run(ServersCronSchedule(cron=cron, timezone=timezone).get_dates(1))
    except ValidationError as error:
        raise _refused(inventory, host, printable(error.errors()[0]["msg"])[:200]) from None
    except Exception as error:  # noqa: BLE001  the parser's errors have no common base but this
        raise _refused(inventory, host, printable(str(error).strip().splitlines()[-1])[:200]) from None
    if not moments:
        raise _refused(inventory, host, "it finds no such moment")


def _refused(inventory: Path, host: Host, why: str) -> ConfigError:
    assert host.schedule is not None
    return ConfigError(
        f"{inventory}: [{host.name}] schedule is {host.schedule.cron!r} in {host.schedule.timezone}, and Prefect does"
        f" not understand it: {why}.",
        hint="Use numbers, lists, ranges and steps, as `0 3 * * 6` or `30 2 1-7 * *`, and a zone as Europe/Helsinki.",
    )
