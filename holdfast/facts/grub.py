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

    def __init__(self, kind: str, title: str = "", identifier: str = "") -> None:
        self.kind, self.title, self.identifier = kind, title, identifier
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
    node = _find(menu, wanted) or menu.children[0]
    while node.kind == "submenu" and node.children:
        node = node.children[0]
    missing = "" if node.identifier.startswith("osprober") else node.missing
    return {"name": clean(node.title or node.identifier or "?"), "kernel": node.kernel, "missing": missing}


def _menu(text: str) -> tuple[_Node, str]:
    menu = _Node("submenu")
    stack, default = [menu], ""
    for line in split_lines(text)[:MAX_LINES]:
        word, _, rest = line.partition(" ")
        if match := _TITLE.match(line):
            node = _Node(match[1], clean(_first(match.groups()[1:4])), _identifier(match[5]))
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
    state, _, path = rest.strip().partition(" ")
    if word.startswith("linux"):
        node.kernel = node.kernel or clean(path)
    if state == "missing":
        node.missing = node.missing or clean(path)


def _find(menu: _Node, wanted: str) -> _Node | None:
    """Follow `Advanced options>gnulinux-6.1`, or `1>2`."""
    node: _Node | None = menu
    for step in wanted.split(">") if wanted else []:
        node = next(_matching(node, step), None) if node else None
    return node if node is not menu else None


def _matching(menu: _Node, step: str) -> Iterator[_Node]:
    if re.fullmatch(r"\d{1,4}", step, re.ASCII):
        yield from menu.children[int(step) : int(step) + 1]
    yield from (one for one in menu.children if step and step in (one.identifier, one.title))


def _identifier(text: str) -> str:
    match = _ID.search(text)
    return clean(_first(match.groups())) if match else ""


def _first(groups: tuple[str | None, ...]) -> str:
    return next((group for group in groups if group is not None), "")
