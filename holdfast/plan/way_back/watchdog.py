"""Which hardware watchdog a machine has, and what it covers: a system that hangs is reset."""

from collections.abc import Iterator
from typing import Final

from holdfast.facts.watchdog import Watchdog, WatchdogFacts
from holdfast.inventory.host import Host, Way
from holdfast.plan.way_back.row import Verdict, WayBackRow

# The drivers that Holdfast's image loads: nix/kexec-tailscale/watchdog.nix. A test holds the two together.
IMAGE_DRIVERS: Final = frozenset(
    {"bcm2835_wdt", "dw_wdt", "hpwdt", "i6300esb", "iTCO_wdt", "sbsa_gwdt", "sp5100_tco", "wdat_wdt"}
)
# From kexec until the installer's drivers are loaded.
_STARTS_WITHIN_S: Final = 60
_SUBJECT: Final = "watchdog"
_POWER_CYCLE: Final = "a system that hangs needs a power cycle"


def watchdog_rows(facts: WatchdogFacts, host: Host) -> Iterator[WayBackRow]:
    """Yield what the machine's watchdog covers.

    To have none is fine: it is how most virtual machines are, and nothing that worked without one depends on it. What
    is unproved is a watchdog that runs already and that kexec does not stop: then the installer has to be in time.

    """
    hardware = [each for each in facts.devices if each.driver and each.driver != "softdog"]
    fed = [each for each in hardware if each.driver in IMAGE_DRIVERS]
    for each in hardware:
        taken_over = each in fed and host.way is Way.TAILSCALE and each.timeout_s >= _STARTS_WITHIN_S
        if each.active and facts.kept_running and not taken_over:
            yield _still_runs(each)
    if not hardware:
        yield _row("there is no hardware watchdog", _POWER_CYCLE)
    elif host.way is Way.STANDARD:
        yield _row(f"there is {_described(hardware[0])}", f"the standard way does not use it: {_POWER_CYCLE}")
    elif not fed:
        yield _row(f"there is {_described(hardware[0])}", f"the image has no driver for it: {_POWER_CYCLE}")
    else:
        hop = next((each for each in fed if each.driver == facts.hop_driver), None)
        covered = "the machine is reset if the installer or a reboot hangs, or the trial of a system with its driver"
        if hop:
            covered += ", and if the installer's kernel hangs before that"
        else:
            why = facts.hop_obstacle or "another watchdog would have to be armed"
            covered += f"; from kexec until the installer's systemd nothing resets it, because {why}"
        yield _row(f"there is {_described(hop or fed[0])}", covered)


def _described(watchdog: Watchdog) -> str:
    used = f", fed by {watchdog.holder or 'a program'}" if watchdog.active else ""
    return f"{watchdog.name or watchdog.device} ({watchdog.driver}{used})"


def _still_runs(watchdog: Watchdog) -> WayBackRow:
    return WayBackRow(
        subject=_SUBJECT,
        seen=f"{_described(watchdog)} runs with {watchdog.timeout_s} s, and this kernel does not stop it at kexec",
        means="it resets the machine, into its origin, unless the installer feeds it in time",
        hint="Stop what feeds it, before the run.",
        verdict=Verdict.UNPROVED,
    )


def _row(seen: str, means: str) -> WayBackRow:
    return WayBackRow(subject=_SUBJECT, seen=seen, means=means, verdict=Verdict.FINE)
