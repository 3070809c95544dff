"""The JSON object that a script of facts prints: nix/scripts/any/facts.sh, or nix/scripts/origin/way-back.sh."""

import json
from collections.abc import Callable
from typing import Final, TypeVar

from pydantic import ValidationError

from holdfast.base.errors import UnexpectedState
from holdfast.base.text import printable

MAX_FACTS_BYTES: Final = 4 * 1024 * 1024
FORMAT: Final = "1"

F = TypeVar("F")


def parse_answer(output: str, host: str, parse: Callable[[dict[str, str]], F]) -> F:
    """Parse what a script of facts printed.

    Args:
        output: all of its standard output.
        host: the host's name, for the message.
        parse: makes the facts of the members; a ValueError or KeyError means that the answer is invalid.

    Raises:
        UnexpectedState: the output is not from the script, or is incomplete.

    """
    try:
        return parse(_members(output))
    except (ValueError, KeyError, RecursionError) as error:
        # pydantic's ValidationError is a ValueError; its text may be long.
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UnexpectedState(
            f"{host} did not answer with facts: {printable(why)[:200]}.",
            hint="Does its login print text of its own? `ssh TARGET true` must print nothing.",
        ) from None


def _members(output: str) -> dict[str, str]:
    if len(output) > MAX_FACTS_BYTES:
        raise ValueError(f"more than {MAX_FACTS_BYTES} bytes")
    # The login may print a line before it.
    start = output.find('{\n"format"')
    said = json.loads(output[start:]) if start >= 0 else None
    if not isinstance(said, dict) or said.pop("end", None) != "1":
        raise ValueError("not a JSON object, or only part of one")
    if any(not isinstance(value, str) for value in said.values()):
        raise ValueError("a fact is not a string")
    if said["format"].strip() != FORMAT:
        raise ValueError(f"format {said['format'].strip()[:20]}, expected {FORMAT}")
    return {key: value.removesuffix("\n") for key, value in said.items()}
