"""The moment by which an operation must be done."""

from dataclasses import dataclass

from holdfast.base import clock


class Allowed(float):
    """Seconds that the user has allowed, which know where: so an error can name the key to raise.

    Attributes:
        key: the key of the inventory's `deadlines`; empty if there is none.

    """

    key: str

    def __new__(cls, seconds: float, key: str = "") -> "Allowed":
        """Return the seconds that a key of the inventory allows."""
        made = super().__new__(cls, seconds)
        made.key = key
        return made


def or_raise(seconds: float) -> str:
    """Return what to add to the hint of a deadline that passed; empty if no key of the inventory sets it."""
    key = getattr(seconds, "key", "")
    return f" Or raise deadlines.{key} in the inventory." if key else ""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, shared by the steps of one operation.

    Attributes:
        allowed_s: how long the whole operation may take, in seconds; for messages.
        at: `clock.monotonic()` at the end.

    """

    allowed_s: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the deadline this many seconds from now."""
        return cls(allowed_s=seconds, at=clock.monotonic() + seconds)

    def within(self, seconds: float) -> "Deadline":
        """Return the deadline this many seconds from now, or this one if it is earlier."""
        sooner = Deadline.after(seconds)
        return sooner if sooner.at < self.at else self

    def left_s(self) -> float:
        """Return the seconds that are left, never less than 0; they know the key that allowed the whole."""
        return self._of_key(max(0.0, self.at - clock.monotonic()))

    def timeout_s(self) -> float:
        """Return the seconds left for one call, at least a tenth: 0 means no limit, or no wait, to what takes it."""
        return self._of_key(max(0.1, self.left_s()))

    def _of_key(self, seconds: float) -> float:
        key = getattr(self.allowed_s, "key", "")
        return Allowed(seconds, key) if key else seconds

    def passed(self) -> bool:
        """Return whether the deadline has passed."""
        return self.left_s() == 0.0
