"""GRUB's menu, as far as it says what is started by default (GRUB manual, "default" and "Simple configuration")."""

import re
from collections.abc import Iterator
from typing import Final

from holdfast.facts.bounded import clean, split_lines

MAX_LINES: Final = 4096
_TITLE: Final = re.compile(r"""(menuentry|submenu) (?:'([^']*)'|"([^"]*)"|(\S+))(.*)""")
_ID: Final = re.compile(r"""(?:--id|\$menuentry_id_option)[= ]+(?:'([^']*)'|"([^"]*)"|(\S+))""")


class _Node:
    """An entry, a submenu, or a function, which is neither."""

    def __init__(self, kind: str, title: str = "", identifier: str = "", *, restricted: bool = False) -> None:
        self.kind, self.title, self.identifier, self.restricted = kind, title, identifier, restricted
        self.kernel = self.missing = ""
        self.children: list[_Node] = []


def grub_default(text: str, saved: str) -> dict[str, str]:
    """Return the entry that GRUB starts by default, as fields of a BootEntry; empty if there is none in its menu.

    The kernels of other systems, which os-prober has found, lie on their own disks: whether they are there is not seen.

    Args:
        text: the lines of grub.cfg that way-back.sh selects.
        saved: `saved_entry` of GRUB's environment; empty if there is none.

    """
    menu, default = _menu(text)
    if not menu.children:
        return {}
    wanted = saved if "saved_entry" in default else default
    path = _find(menu, wanted) or menu.children[:1]
    while path[-1].kind == "submenu" and path[-1].children:
        path.append(path[-1].children[0])
    node = path[-1]
    missing = "" if node.identifier.startswith("osprober") else node.missing
    # GRUB manual, "Authentication and authorisation": each that is not unrestricted asks.
    asks = _has_superusers(text) and any(one.restricted for one in path)
    found = {"name": clean(node.title or node.identifier or "?"), "kernel": node.kernel, "missing": missing}
    return found | ({"waits": "asks for a password before it starts its default"} if asks else {})


def grub_waits(text: str) -> str:
    """Return what GRUB waits for at its menu; empty if it starts its default by itself.

    The first `set timeout` of a usual grub.cfg is that of a boot that has failed, the last one is that of the others.
    """
    values = [line.partition("=")[2].strip(" \"'") for line in split_lines(text) if line.startswith("set timeout=")]
    return "waits at its menu without end (timeout=-1)" if values[-1:] == ["-1"] else ""


def _has_superusers(text: str) -> bool:
    lines = [line.partition("=")[2] for line in split_lines(text) if line.startswith("set superusers=")]
    return any(line.strip(" \"'") for line in lines)


def _menu(text: str) -> tuple[_Node, str]:
    menu = _Node("submenu")
    stack, default = [menu], ""
    for line in split_lines(text)[:MAX_LINES]:
        word, _, rest = line.partition(" ")
        if match := _TITLE.match(line):
            restricted = "--unrestricted" not in match[5].split()
            title = clean(_first(match.groups()[1:4]))
            node = _Node(match[1], title, _identifier(match[5]), restricted=restricted)
            stack[-1].children.append(node)
            if line.rstrip().endswith("{"):
                stack.append(node)
        elif word == "function":
            stack.append(_Node("function"))
        elif word.startswith("}"):
            if len(stack) > 1:
                stack.pop()
        elif word == "set" and rest.startswith("default="):
            value = rest.partition("=")[2].strip().strip("\"'")
            if "next_entry" not in value:
                default = value
        elif word.startswith(("linux", "initrd")) and stack[-1].kind == "menuentry":
            _note(stack[-1], word, rest)
    return menu, default


def _note(node: _Node, word: str, rest: str) -> None:
    state, _, path = rest.strip().replace('"', "").replace("'", "").partition(" ")
    if word.startswith("linux"):
        node.kernel = node.kernel or clean(path)
    if state == "missing":
        node.missing = node.missing or clean(path)


def _find(menu: _Node, wanted: str) -> list[_Node]:
    """Follow `Advanced options>gnulinux-6.1`, or `1>2`; return the nodes on the way, none if one is not there."""
    path = [menu]
    for step in wanted.split(">") if wanted else []:
        node = next(_matching(path[-1], step), None)
        if node is None:
            return []
        path.append(node)
    return path[1:]


def _matching(menu: _Node, step: str) -> Iterator[_Node]:
    if re.fullmatch(r"\d{1,4}", step, re.ASCII):
        yield from menu.children[int(step) : int(step) + 1]
    yield from (one for one in menu.children if step and step in (one.identifier, one.title))


def _identifier(text: str) -> str:
    match = _ID.search(text)
    return clean(_first(match.groups())) if match else ""


def _first(groups: tuple[str | None, ...]) -> str:
    return next((group for group in groups if group is not None), "")
