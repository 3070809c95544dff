"""The watchdogs of a machine: timers that reset it unless somebody feeds them."""

from collections.abc import Mapping

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, number, split_lines

_WORDS = 8


class Watchdog(Frozen):
    """A watchdog, as the kernel's /sys/class/watchdog shows it (Documentation/ABI/testing/sysfs-class-watchdog).

    Attributes:
        device: its name, as `watchdog0`.
        driver: the kernel module that drives it, as `iTCO_wdt`; empty if that is unknown, or if it is no hardware.
        active: whether it runs, and somebody feeds it.
        timeout_s: seconds until it fires.
        longest_s: the most seconds that the driver says it takes; 0 if it does not say.
        nowayout: whether it cannot be stopped again once it runs.
        holder: the name of PID 1, if that has it open.
        name: the name that its driver gives it, as `i6300ESB timer`.

    """

    device: str
    driver: str = ""
    active: bool = False
    timeout_s: int = 0
    longest_s: int = 0
    nowayout: bool = False
    holder: str = ""
    name: str = ""


class WatchdogFacts(Frozen):
    """The watchdogs of a machine.

    Attributes:
        devices: its watchdogs.
        kept_running: whether the kernel leaves a watchdog running at a reboot and at kexec (`stop_on_reboot=0`).
        hop_driver: the driver of the watchdog that can be armed before kexec; empty if none can.
        hop_obstacle: why none can; empty if one can.

    """

    devices: tuple[Watchdog, ...] = ()
    kept_running: bool = False
    hop_driver: str = ""
    hop_obstacle: str = ""


def parse_watchdog(said: Mapping[str, str]) -> WatchdogFacts:
    """Parse what way-back.sh says of watchdogs."""
    can, _, what = said["watchdog_hop"].strip().partition(" ")
    return WatchdogFacts(
        devices=tuple(_watchdog(line) for line in split_lines(said["watchdogs"])[:MAX_ITEMS]),
        kept_running=said["watchdog_core"].strip() == "0",
        hop_driver=clean(what) if can == "yes" else "",
        hop_obstacle=clean(what) if can == "no" else "",
    )


def _watchdog(line: str) -> Watchdog:
    words = [*line.split(" ", _WORDS - 1), *[""] * _WORDS]
    device, driver, state, timeout, longest, nowayout, holder, name = (clean(word) for word in words[:_WORDS])
    return Watchdog(
        device=device,
        driver=driver.removeprefix("-"),
        active=state == "active",
        timeout_s=number(timeout),
        longest_s=number(longest),
        nowayout=nowayout == "1",
        holder=holder.removeprefix("-"),
        name=name,
    )
