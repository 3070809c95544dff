"""Scripts are files of nix/scripts, where shellcheck and other shells see all of them."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.base.settings import script

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "nix" / "scripts"
FOLDERS = ("holdfast", "tasks", "flows", "deployments", "lab")
LONGEST_LINES = 8
SHELL = re.compile(
    r"^\s*(?:#!.*\bsh\b|set -[eu]|fi\b|done\b|esac\b|(?:if|while|until|case|for|exec|trap|echo|umask|cd|mv|rm|cp) )"
    r"|\$\{?[A-Za-z0-9@#]|\|\|",
    re.MULTILINE,
)
TRAVELLING = [path.relative_to(SCRIPTS).as_posix() for path in SCRIPTS.glob("*/*.sh") if path.parent.name != "parts"]


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each string, without docstrings; of an f-string what is not filled in."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    inside -= {id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)}
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in docs or id(node) in inside:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "" for part in node.values)
            yield node.lineno, "".join(str(part) for part in parts)


def long_shell(source: str) -> list[int]:
    """Return the lines of the source at which a long piece of shell begins."""
    return [
        line
        for line, text in texts(ast.parse(source))
        if len(text.strip().splitlines()) > LONGEST_LINES and len(SHELL.findall(text)) > LONGEST_LINES // 2
    ]


def test_no_python_file_holds_a_long_piece_of_shell() -> None:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 50
    found = [f"{file.relative_to(ROOT)}:{line}" for file in files for line in long_shell(file.read_text())]
    assert found == []


@pytest.mark.parametrize("mark", ["", "f"])
@pytest.mark.parametrize("name", TRAVELLING)
def test_a_script_in_a_string_would_be_found(name: str, mark: str) -> None:
    text = (SCRIPTS / name).read_text().replace("\\", "").replace('"""', "")
    if mark:
        text = text.replace("{", "{{").replace("}", "}}")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    expected = [2] if len(lines) > LONGEST_LINES else []
    assert long_shell(f'"""Docstring."""\nTEXT = {mark}"""\n' + "\n".join(lines) + '\n"""\n') == expected


@pytest.mark.parametrize("name", TRAVELLING)
def test_a_script_travels_with_its_parts(name: str) -> None:
    text = script(name)
    assert "/parts/" not in text
    subprocess.run(["dash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("part", [path.name for path in SCRIPTS.glob("parts/*.sh")])
def test_every_part_has_its_scripts(part: str) -> None:
    text = script(f"parts/{part}")
    assert [name for name in TRAVELLING if text.rstrip() in script(name)]
