"""A log that remembers: what the work said, warned of and passed on of its commands' lines."""

from dataclasses import dataclass, field


@dataclass
class Remembered:
    """A Log for tests."""

    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def line(self, text: str) -> None:
        self.lines.append(text)
