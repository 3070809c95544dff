"""Every bad input in docs/security.md names a test that there is."""

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
HEAD = "| input | answer | test |"


def rows() -> list[list[str]]:
    _, _, table = (PROJECT / "docs" / "security.md").read_text().partition(f"{HEAD}\n|---|---|---|\n")
    return [line.strip("| ").split(" | ") for line in table.split("\n\n")[0].splitlines()]


def test_every_row_names_a_test_that_there_is() -> None:
    assert len(rows()) > 40
    known: dict[str, set[str]] = {}
    for row in rows():
        assert len(row) == 3, row
        found = re.fullmatch(r"`(tests/[a-z_/]+\.py)::(test_\w+)`", row[2])
        assert found, row
        file, name = found.groups()
        if file not in known:
            tree = ast.parse((PROJECT / file).read_text())
            known[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in known[file], row


def test_it_is_linked() -> None:
    assert "(docs/security.md)" in (PROJECT / "README.md").read_text()
