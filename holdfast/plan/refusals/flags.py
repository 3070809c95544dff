"""Flags of `tailscale` and tailscaled, as a configuration gives them."""

import re
from itertools import pairwise
from typing import Final

# Go's flag package, strconv.ParseBool.
_TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")


def flag(flags: tuple[str, ...], name: str) -> str | None:
    """Return the value of a flag of `tailscale`; the last one counts, and None means that it is not there.

    Args:
        flags: words of the command line.
        name: the flag, without dashes.

    """
    value = None
    for word, after in pairwise((*flags, "")):
        found = re.fullmatch(rf"--?{re.escape(name)}(?:=(.*))?", word, re.DOTALL)
        if found:
            value = found[1] if found[1] is not None else after
    return value


def switch(flags: tuple[str, ...], name: str) -> bool | None:
    """Return the value of a flag that is a switch: `--ssh`, `--ssh=false`; None if it is not there."""
    values = [
        found[1] is None or found[1] in _TRUE
        for word in flags
        if (found := re.fullmatch(rf"--?{re.escape(name)}(?:=(.*))?", word, re.DOTALL))
    ]
    return values[-1] if values else None
