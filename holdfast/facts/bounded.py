"""Splits the text of a target into printable pieces of limited size."""

import re
from collections.abc import Iterator
from typing import Final

from holdfast.base.text import printable

MAX_ITEMS: Final = 64
LONGEST_FACT: Final = 256


def clean(text: str) -> str:
    """Return at most LONGEST_FACT characters of a text, printable, without blanks at either end."""
    return printable(text.strip()[:LONGEST_FACT])


def first_word(text: str) -> str:
    """Return the first word."""
    return clean(text).partition(" ")[0]


def split_lines(text: str) -> list[str]:
    """Split at newlines only: str.splitlines also splits at U+2028, so one disk could forge facts of another."""
    return [line for line in text.split("\n") if line]


def first_words(text: str) -> list[str]:
    """Return the first word of each line."""
    return [first_word(line) for line in split_lines(text)[:MAX_ITEMS] if line.strip()]


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Split each line at its first blank."""
    for line in split_lines(text):
        key, _, value = line.partition(" ")
        yield key, value.strip()


def number(text: str) -> int:
    """Return the number at the start of a text, or 0."""
    match = re.match(r"\s*(\d{1,18})\b", text, re.ASCII)
    return int(match[1]) if match else 0
