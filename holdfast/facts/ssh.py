"""The SSH keys of a target: whom its root lets in by authorized_keys, and the files of its host keys."""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from holdfast.base.frozen import Frozen
from holdfast.facts.bounded import MAX_ITEMS, clean, split_lines

# More lines than any file of authorized keys has.
MAX_KEYS: Final = 10_000
_KIND: Final = re.compile(r"(?:(?:sk-)?(?:ssh|ecdsa)-[a-z0-9-]+)(?:@[a-z0-9.-]+)?")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{4,8192}={0,2}")
_BLANKS: Final = " \t"


class AuthorizedKey(Frozen):
    """A line of authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT).

    Attributes:
        key: `TYPE BASE64`.
        options: what comes before it, such as `from="192.0.2.1"`; empty if nothing does.
        has_blank: whether type and key have a blank between them, and no tab.

    """

    key: str
    options: tuple[str, ...] = ()
    has_blank: bool = True

    def option(self, name: str) -> str | None:
        """Return the value of the first option of that name, without its quotes; None if it is not there."""
        for said in self.options:
            found, _, value = said.partition("=")
            if found.lower() == name:
                return value.strip('"')
        return None


class HostKeyFile(Frozen):
    """A file with a private host key.

    Attributes:
        path: where it is.
        key: its public half, `TYPE BASE64`; empty if nothing on the target could tell.

    """

    path: str
    key: str = ""


def parse_authorized_key(line: str) -> AuthorizedKey | None:
    """Read a line as sshd does; None if it has no key. A blank within quotes is a part of an option."""
    line = line.strip(f"{_BLANKS}\r\n")
    if not line or line.startswith("#"):
        return None
    options, rest = "", line
    if not _KIND.fullmatch(re.split(r"[ \t]", line, maxsplit=1)[0]):
        end = _end_of_options(line)
        options, rest = line[:end], line[end:].lstrip(_BLANKS)
    found = re.match(r"(\S+?)([ \t]+)(\S+)", rest)
    if found is None or not _KIND.fullmatch(found[1]) or not _BASE64.fullmatch(found[3]):
        return None
    return AuthorizedKey(
        key=f"{found[1]} {found[3]}", options=tuple(_split_options(options)), has_blank="\t" not in found[2]
    )


def parse_authorized_keys(lines: Iterable[str]) -> Iterator[AuthorizedKey]:
    """Read the lines of a file of authorized keys, and pass over all others."""
    for line in lines:
        if (key := parse_authorized_key(line)) is not None:
            yield key


def parse_ssh_keys(
    said: Mapping[str, str],
) -> tuple[tuple[AuthorizedKey, ...] | None, tuple[HostKeyFile, ...] | None]:
    """Read what facts.sh says of authorized keys and host keys; None for what an older one does not say."""
    keys, files = said.get("authorized_keys"), said.get("host_key_files")
    return (
        None if keys is None else tuple(parse_authorized_keys(split_lines(keys)[:MAX_KEYS])),
        None if files is None else tuple(dict.fromkeys(_host_key_files(files))),
    )


def _host_key_files(text: str) -> Iterator[HostKeyFile]:
    for line in split_lines(text)[:MAX_ITEMS]:
        path, _, key = line.partition("\t")
        yield HostKeyFile(path=clean(path), key=key if is_key(key) else "")


def is_key(text: str) -> bool:
    """Return whether a text is `TYPE BASE64` of a public key, by its form."""
    kind, _, blob = text.partition(" ")
    return _KIND.fullmatch(kind) is not None and _BASE64.fullmatch(blob) is not None


def fingerprint(key: str) -> str:
    """Return type and fingerprint of `TYPE BASE64`, as `ssh-keygen -l` prints it; or the type alone."""
    kind, _, blob = key.partition(" ")
    try:
        digest = hashlib.sha256(base64.b64decode(blob, validate=True)).digest()
    except ValueError:
        return kind
    return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _end_of_options(line: str) -> int:
    """Return where the options end: at the first blank outside of quotes. `\\"` is no end of them."""
    quoted = False
    at = 0
    while at < len(line) and (quoted or line[at] not in _BLANKS):
        if line.startswith('\\"', at):
            at += 1
        elif line[at] == '"':
            quoted = not quoted
        at += 1
    return at


def _split_options(text: str) -> Iterator[str]:
    """Split at commas outside of quotes."""
    begin, quoted = 0, False
    for at, char in enumerate(f"{text},"):
        if char == '"' and not (at and text[at - 1] == "\\"):
            quoted = not quoted
        if char == "," and (not quoted or at == len(text)):
            if text[begin:at]:
                yield text[begin:at]
            begin = at + 1
