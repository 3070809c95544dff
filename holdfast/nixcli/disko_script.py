"""The text of a disko script, with the scripts of the store that it calls."""

import re
from collections.abc import Callable, Sequence
from typing import Final

from holdfast.base.errors import CommandFailed, ConfigError
from holdfast.nixcli import commands

READ_WITHIN_S: Final = 60
MAX_FILES: Final = 200
MAX_SCRIPT: Final = 1024 * 1024

_STORE_PATH: Final = re.compile(r"/nix/store/[0-9a-z]+-[\w.+?=/-]*[\w+?=]")
# The folders of a PATH, of which a disko script has many.
_FOLDER: Final = re.compile(r"/s?bin\Z")


def read_scripts(paths: Sequence[str], read: Callable[[str], str] | None = None) -> str:
    """Return the text of scripts, and of all scripts of the store that they name, one after the other.

    Args:
        paths: store paths of the scripts, which are built.
        read: returns the text of a file, or raises CommandFailed; by default of the operator's store.

    Raises:
        CommandFailed: one of them cannot be read.
        ConfigError: it calls more than MAX_FILES files, or is longer than MAX_SCRIPT characters.

    """
    seen = dict.fromkeys(paths)
    waiting, texts = list(seen), []
    while waiting:
        path = waiting.pop(0)
        text = _read(read or _in_store, path, required=path in paths)
        if len(text) > MAX_SCRIPT or len(seen) > MAX_FILES:
            raise ConfigError(
                f"the disko script {paths[0]} is too long to be checked: more than {MAX_FILES} files, or {path} has"
                f" more than {MAX_SCRIPT} characters.",
                hint="Does a hook of the disko configuration hold a file's content? Name the file instead.",
            )
        texts.append(text)
        for found in _STORE_PATH.findall(text):
            if found not in seen and not _FOLDER.search(found):
                seen[found] = None
                waiting.append(found)
    return "\n".join(texts)


def _in_store(path: str) -> str:
    return commands.run(commands.store_cat(path), timeout_s=READ_WITHIN_S).stdout


def _read(read: Callable[[str], str], path: str, *, required: bool) -> str:
    """Return the text of a file; empty if it is a folder or no script."""
    try:
        text = read(path)
    except CommandFailed:
        if required:
            raise
        return ""
    return text if required or text.startswith("#!") else ""
