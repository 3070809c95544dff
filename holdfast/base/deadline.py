"""The moment at which something must be over."""

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
        """Return the deadline that lies so many seconds ahead."""
        return cls(allowed_s=seconds, at=clock.monotonic() + seconds)

    def left_s(self) -> float:
        """Return the seconds that are left; 0 when none are."""
        return max(0.0, self.at - clock.monotonic())

    def timeout_s(self) -> float:
        """Return the seconds left for one call, at least a tenth: 0 means no limit, or no wait, to what takes it."""
        return max(0.1, self.left_s())

    def passed(self) -> bool:
        """Return whether no time is left."""
        return self.left_s() == 0.0
