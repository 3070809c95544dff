"""When a host is installed by itself: a line of cron, and the time zone in which it counts."""

import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, model_validator

from holdfast.base.frozen import Frozen

FORM: Final = "it is not five fields with one blank between them, as in `0 3 * * 6`"


def _cron(line: str) -> str:
    # cronsim would also take six fields, with seconds, and Prefect's parser words such as @daily.
    if len(line.split(" ")) != 5 or line.split() != line.split(" "):
        raise ValueError(FORM)
    try:
        next(CronSim(line, datetime.now(UTC)))
    except CronSimError as error:
        raise ValueError(f"it is no line of cron: {str(error).lower()}") from None
    except StopIteration:
        raise ValueError("that moment never comes") from None
    return line


def _timezone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("it is no time zone, as Europe/Helsinki or UTC") from None
    return name


class Schedule(Frozen):
    """A maintenance window for the first install.

    Attributes:
        cron: a cron line of five fields, as `0 3 * * 6`.
        timezone: the time zone in which it counts, as `Europe/Helsinki`.

    """

    cron: Annotated[str, Field(max_length=100), AfterValidator(_cron)]
    timezone: Annotated[str, Field(max_length=100), AfterValidator(_timezone)] = "UTC"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, values: object) -> object:
        """Take the short form, a cron line alone."""
        if isinstance(values, str):
            return {"cron": _cron(values)}  # here, so that an error names the key that the user wrote
        if not isinstance(values, Mapping):
            raise ValueError("it is neither a cron line nor a table of cron and timezone")
        return values
