"""One observation about the way back."""

from enum import StrEnum

from holdfast.base.frozen import Frozen


class Verdict(StrEnum):
    """How safe the way back is: nothing speaks against it, nobody has proved it, or the machine would be lost."""

    FINE = "fine"
    UNPROVED = "unproved"
    STRANDS = "strands"


class WayBackRow(Frozen):
    """One observation about the way back; a row of the plan's table.

    Attributes:
        subject: what it is about, in a word or two, such as `tailscaled at boot`.
        seen: what was seen, without full stop.
        means: what follows from it for the machine, without full stop.
        hint: what mends it, as a sentence; may be empty.
        verdict: how safe it is.

    """

    subject: str
    seen: str
    means: str
    hint: str = ""
    verdict: Verdict

    def in_one_line(self) -> str:
        """Return the row as one line for a log."""
        return " ".join(part for part in (f"{self.subject}: {self.seen}: {self.means}.", self.hint) if part)
