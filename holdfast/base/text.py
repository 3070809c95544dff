"""Bytes from the target made into text that is safe to show, and kept in bounded memory."""

import codecs
import json
import re
from collections.abc import Callable
from typing import Any, Final

LONGEST_LINE: Final = 4096


def printable(text: str) -> str:
    r"""Return the text with every character escaped that could act on a terminal or a log.

    Control characters, escape sequences and the invisible characters that turn the direction of text
    become `\x1b` or `\u202e`; a tab becomes a space.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if char == "\t":
        return " "
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def in_markdown(text: str, longest: int) -> str:
    """Make text harmless in Markdown, a table's cell too: no markup, no HTML, no control characters, one line.

    Args:
        text: what may come from the target.
        longest: of more characters, so many are left, before the escaping.

    """
    plain = printable(text[: longest + 1])
    short = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    entities = short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A colon behind a scheme would make a link of its own.
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
    """Cuts a stream of bytes into printable lines, and hands each one on as soon as it is complete.

    A carriage return ends a line too, so that progress meters do not pile up. A line longer than
    LONGEST_LINE characters is handed on in pieces.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """Take the next bytes; `last` also hands on a line that has no end."""
        self._rest += self._decode(data, last)
        *lines, self._rest = self._rest.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if len(self._rest) > LONGEST_LINE or (last and self._rest):
            lines.append(self._rest)
            self._rest = ""
        for line in lines:
            for start in range(0, len(line) or 1, LONGEST_LINE):
                self._on_line(printable(line[start : start + LONGEST_LINE]))


class Tail:
    """Keeps the last bytes of a stream, and counts the ones that it had to drop.

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
        # Cutting only now and then keeps a long stream from being copied at every packet.
        if len(self._kept) > self._limit + max(self._limit, 65536):
            self._cut()

    def _cut(self) -> None:
        surplus = len(self._kept) - self._limit
        if surplus > 0:
            del self._kept[:surplus]
            self.dropped_bytes += surplus

    def content(self) -> bytes:
        """Return the bytes that were kept."""
        self._cut()
        return bytes(self._kept)

    def text(self) -> str:
        """Return what was kept as text; its first line says so if something was dropped."""
        kept = self.content().decode("utf-8", "replace")
        if not self.dropped_bytes:
            return kept
        return f"[the first {self.dropped_bytes} bytes were dropped; the last {self._limit} follow]\n{kept}"
