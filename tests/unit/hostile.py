"""Nasty input for parsers, and what has to hold of every answer.

The property everywhere: a parser gives a value or one of our errors. No other exception, no endless time or memory, and
no text that could act on a terminal, a log or the UI.
"""

import re
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from holdfast.base.errors import HoldfastError

# Files and fixtures of a test are used for all its examples.
quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

NASTY = (
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066\u2069\u200e",
    "\u2028forged line\u2029",
    "\x85\x0b\x0c\x1c",
    "\x00",
    "\r\n",
    "\ud800",
    "\U000e0041\ufeff",
    "'; reboot; $(reboot) `reboot` #",
    "<script>alert(1)</script>",
    "](javascript:x) | a | b |",
    "../../etc/passwd",
    "9" * 5000,
    "[" * 3000,
    "~nosuchuser/x",
    "%n%s{0}",
)
# Escapes, controls, other directions of text, separators of lines, lone surrogates.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")

texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=40), st.text(st.characters(), max_size=40))
mixed = st.lists(texts, max_size=4).map("".join)
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -(10**400), 2**63, 1e308, 1e11]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


def safe(text: str) -> None:
    """See that a text for a person is one line that cannot act on anything."""
    assert not UNSAFE.search(text), repr(UNSAFE.findall(text)[:5])
    text.encode()


def safe_markdown(text: str) -> None:
    """See that every line is safe, that no HTML is in it, and that a table keeps its columns."""
    columns = 0
    for line in text.split("\n"):
        safe(line)
        assert not re.search(r"<[A-Za-z/!]|(?<!\\)\]\(|://", line), line
        bars = len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) if line.startswith("|") else 0
        assert not (columns and bars) or bars == columns, line
        columns = bars


def answered(call: Callable[[], Any], *, also: type[Exception] | tuple[()] = ()) -> Any:
    """Return the answer; of an error of ours see that it is safe to show. `also` is what the docstring promises."""
    try:
        return call()
    except HoldfastError as error:
        safe(str(error))
        assert len(error.message) <= 4000
    except also:
        pass
    return None


def strings_of(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in strings_of(item)]
    return [text for item in value for text in strings_of(item)] if isinstance(value, list | tuple) else []
