"""The moment by which an operation must be done."""

from dataclasses import dataclass

from holdfast.base import clock


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

    def left_s(self) -> float:
        """Return the seconds that are left, never less than 0."""
        return max(0.0, self.at - clock.monotonic())

    def timeout_s(self) -> float:
        """Return the seconds left for one call, at least a tenth: 0 means no limit, or no wait, to what takes it."""
        return max(0.1, self.left_s())

    def passed(self) -> bool:
        """Return whether the deadline has passed."""
        return self.left_s() == 0.0
