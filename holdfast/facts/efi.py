"""The firmware's own boot entries, by UEFI (UEFI specification 2.10, section 3.3)."""

import re
from collections.abc import Mapping

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS


class EfiFacts(Frozen):
    """The firmware's own boot entries; all of it is empty without UEFI.

    Attributes:
        current: the entry that started the running system, as `0001`.
        next: the entry that the next boot starts once.
        order: the entries in the order in which the firmware tries them.

    """

    current: str = ""
    next: str = ""
    order: tuple[str, ...] = ()


def parse_efi(said: Mapping[str, str]) -> EfiFacts:
    """Parse what way-back.sh says of the firmware's entries."""
    return EfiFacts(
        current=" ".join(_entries(said["boot_current"])[:1]),
        next=" ".join(_entries(said["boot_next"])[:1]),
        order=_entries(said["boot_order"]),
    )


def _entries(text: str) -> tuple[str, ...]:
    return tuple(word.upper() for word in text.split() if re.fullmatch(r"[0-9A-Fa-f]{4}", word))[:MAX_ITEMS]
