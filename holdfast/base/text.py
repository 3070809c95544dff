"""Turns bytes from the target into text that is safe to show, in bounded memory."""

import codecs
import json
import re
from collections.abc import Callable
from typing import Any, Final

LONGEST_LINE: Final = 4096


def printable(text: str) -> str:
    r"""Return the text with all characters escaped that could act on a terminal or a log.

    Control characters, escape sequences and the invisible characters that change the direction of
    text become `\x1b` or `\u202e`; a tab becomes a space.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if char == "\t":
        return " "
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def duration(seconds: float) -> str:
    """Return a duration for people, in one or two units: `45 s`, `15 min`, `3 h 20 min`, `2 d 4 h`."""
    total = max(0, round(seconds))
    if total < 120:
        return f"{total} s"
    minutes, hours, days = total // 60 % 60, total // 3600 % 24, total // 86400
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    first = next(place for place, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def clip(text: str, longest: int) -> str:
    """Return at most `longest` characters of a text, with a sign where it was cut."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def in_markdown(text: str, longest: int) -> str:
    """Make text harmless in Markdown and its tables: no markup, no HTML, no control characters, one line.

    Args:
        text: any text, also from the target.
        longest: the most characters to keep, counted before escaping.

    """
    entities = (
        clip(printable(text[: longest + 1]), longest).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )
    # `://` after a scheme would be shown as a link.
    return re.sub(r"([\\`*_{}\[\]()#+!|~$^=-])", r"\\\1", entities).replace("://", ":&#47;&#47;")


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object that somebody else wrote.

    Raises:
        ValueError: it is something else.

    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


class LineSplitter:
    """Splits a stream of bytes into printable lines, and passes each on as soon as it is complete.

    A carriage return ends a line too, so that progress meters do not pile up. A line longer than
    LONGEST_LINE characters is passed on in pieces.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """Take the next bytes; with `last`, an unfinished line is passed on too."""
        self._rest += self._decode(data, last)
        *lines, self._rest = self._rest.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if len(self._rest) > LONGEST_LINE or (last and self._rest):
            lines.append(self._rest)
            self._rest = ""
        for line in lines:
            for start in range(0, len(line) or 1, LONGEST_LINE):
                self._on_line(printable(line[start : start + LONGEST_LINE]))


class Tail:
    """Keeps the last bytes of a stream, and counts the bytes that it dropped.

    Args:
        limit_bytes: how many bytes are kept.

    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept = bytearray()
        self.dropped_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._kept += data
        # Cut only now and then: otherwise each packet of a long stream would copy all that is kept.
        if len(self._kept) > self._limit + max(self._limit, 65536):
            self._cut()

    def _cut(self) -> None:
        surplus = len(self._kept) - self._limit
        if surplus > 0:
            del self._kept[:surplus]
            self.dropped_bytes += surplus

    def content(self) -> bytes:
        """Return the kept bytes."""
        self._cut()
        return bytes(self._kept)

    def text(self) -> str:
        """Return the kept bytes as text; if some were dropped, the first line says how many."""
        kept = self.content().decode("utf-8", "replace")
        if not self.dropped_bytes:
            return kept
        return f"[the first {self.dropped_bytes} bytes were dropped; the last {self._limit} follow]\n{kept}"
