"""Settings of Nix that the inventory's `nix_options` hands to the operator's nix, as `--option NAME VALUE`."""

import re
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,99}")
_LONGEST: Final = 4000
# Every user of the operator may read command lines.
_SECRET: Final = ("access-tokens",)
_PUBLIC: Final = "and a command line is public: put it into ~/.config/nix/nix.conf, or into the file of netrc-file"
# `https://TOKEN@host`, `ssh://user:password@host`.
_LOGIN: Final = re.compile(r"\bhttps?://[^/\s@]+@|://[^/\s@:]*:[^/\s@]+@", re.IGNORECASE)
_OURS: Final = {
    "experimental-features": "Holdfast needs some of its own: use extra-experimental-features",
    "store": "what is built has to be in the operator's own store",
    "eval-store": "what is evaluated has to be in the operator's own store",
}


def check_nix_options(given: object) -> Mapping[str, str]:
    """Return the settings as nix reads them: texts, numbers, and `true` or `false`.

    The whole table is checked at once, so that an error does not show the value of a key.

    Raises:
        ValueError: a name or a value is invalid, or would put a secret into a command line.

    """
    if not isinstance(given, Mapping):
        raise ValueError("it is not a table")
    return {_checked_name(name): _text(name, value) for name, value in given.items()}


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{str(name)[:80]!r} is not the name of a setting of Nix (`nix config show` lists them)")
    plain = name.removeprefix("extra-")
    if plain in _SECRET:
        raise ValueError(f"{name} is a secret, {_PUBLIC}")
    if why := _OURS.get(name):
        raise ValueError(f"{name} cannot be set here: {why}")
    return name


def _text(name: str, value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else value
    if not isinstance(text, str) or len(text) > _LONGEST or not text.isprintable():
        raise ValueError(f"{name} needs one line of text, a number, true or false; a list is one text with blanks")
    if _LOGIN.search(text):
        raise ValueError(f"{name} has a login in an address, {_PUBLIC}")
    return text


NixOptions = Annotated[Mapping[str, str], BeforeValidator(check_nix_options), Field(max_length=64)]
