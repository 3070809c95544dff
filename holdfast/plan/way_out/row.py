"""One link, or another part of the network: as it is, and as the installer will have it."""

from enum import StrEnum

from holdfast.base.frozen import Frozen


class Verdict(StrEnum):
    """What becomes of a part of the network: the installer has it, perhaps, or it is gone and with it the machine."""

    FINE = "fine"
    UNPROVED = "unproved"
    LOST = "lost"


class WayOutRow(Frozen):
    """A part of the network; a row of the plan's table.

    Attributes:
        subject: the link's name, or a word.
        now: as it is, without full stop.
        then: as the installer will have it, without full stop.
        hint: what mends it, as a sentence; may be empty.
        verdict: what becomes of it.

    """

    subject: str
    now: str
    then: str
    hint: str = ""
    verdict: Verdict

    def in_one_line(self) -> str:
        """Return the row as one line for a log."""
        return " ".join(part for part in (f"{self.subject} ({self.now}): {self.then}.", self.hint) if part)
