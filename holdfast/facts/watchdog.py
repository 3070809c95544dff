"""The hardware watchdogs of a machine."""

from collections.abc import Mapping

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, pairs


class WatchdogFacts(Frozen):
    """The hardware watchdogs of a machine.

    Attributes:
        devices: its devices, each with the name that its driver gives it: `("watchdog0", "iTCO_wdt")`.

    """

    devices: tuple[tuple[str, str], ...] = ()


def parse_watchdog(said: Mapping[str, str]) -> WatchdogFacts:
    """Parse what way-back.sh says of watchdogs."""
    return WatchdogFacts(
        devices=tuple((clean(device), clean(name)) for device, name in pairs(said["watchdogs"]))[:MAX_ITEMS]
    )
