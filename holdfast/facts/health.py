"""What the disks say of their own health, by smartctl(8)."""

from collections.abc import Mapping
from typing import Final

from holdfast.facts.bounded import clean, number, pairs

_FAILING: Final = "failing: "
# Bits of smartctl's exit status: the disk says that it fails, or attributes that foretell a failure say so now.
_FAILS: Final = 1 << 3 | 1 << 4


def parse_health(text: str) -> Mapping[str, str]:
    """Return the health of each disk by its name: `passed`, or `failing: ` and why. Others are unknown.

    A disk that sleeps, or that has no such report, ends smartctl with another status and without a result.
    """
    found = {}
    for name, rest in pairs(text):
        status, _, said = rest.partition(" ")
        results = [line.partition(": ")[2] for line in said.split("; ") if ": " in line]
        reasons = [line.removeprefix("- ") for line in said.split("; ") if line.startswith("- ")]
        good = bool(results) and all(result in ("PASSED", "OK") for result in results)
        if number(status) & _FAILS or (results and not good):
            why = ", ".join(dict.fromkeys([*(one for one in results if one not in ("PASSED", "OK")), *reasons]))
            found[name] = clean(f"{_FAILING}{why or 'attributes that foretell a failure'}")
        elif good:
            found[name] = "passed"
    return found


def is_failing(health: str) -> bool:
    """Return whether a disk's health, as parse_health tells it, says that the disk is about to fail."""
    return health.startswith(_FAILING)
