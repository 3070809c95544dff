"""A reason to refuse a configuration."""

from typing import NamedTuple

from holdfast.inventory.host import Allowance


class Refusal(NamedTuple):
    """A reason to refuse a configuration.

    Attributes:
        allowance: the word for `allow` in the inventory that overrides it; None if nothing does.
        message: one line.
        hint: what the user can do.

    """

    allowance: Allowance | None
    message: str
    hint: str
