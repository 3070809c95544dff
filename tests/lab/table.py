"""Tables of what a campaign of tests in the lab found: kept in a file while it runs, and printed at its end."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RowT = TypeVar("RowT", bound="DataclassInstance")


class Findings(Generic[RowT]):
    """The rows; also written to a file at once, so that an interrupted campaign still leaves its rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self.rows: list[RowT] = []

    def add(self, row: RowT) -> None:
        """Add a row."""
        self.rows.append(row)
        self._path.write_text(json.dumps([asdict(each) for each in self.rows], indent=1) + "\n")


def read(path: Path, kind: Callable[..., RowT]) -> list[RowT]:
    """Return the rows of a file that `Findings` wrote; none if there is no such file."""
    return [kind(**row) for row in json.loads(path.read_text())] if path.is_file() else []


def show(title: str, columns: Mapping[str, str], rows: Sequence["DataclassInstance"]) -> None:
    """Print the table to the terminal.

    Args:
        title: stands above it.
        columns: the heading of each field of a row.
        rows: the rows.

    """
    table = Table(title=title)
    for heading in columns.values():
        table.add_column(heading)
    for row in rows:
        table.add_row(*(_text(getattr(row, field)) for field in columns))
    Console(width=160).print(table)


def to_markdown(columns: Mapping[str, str], rows: Sequence["DataclassInstance"]) -> str:
    """Return the table for a page of the docs; numbers are on the right."""
    number = {field for row in rows for field in columns if isinstance(getattr(row, field), float)}
    lines = [list(columns.values()), ["---:" if field in number else "---" for field in columns]]
    # An error's text may have several lines, and a bar.
    lines += [[" ".join(_text(getattr(row, field)).split()).replace("|", "\\|") for field in columns] for row in rows]
    head, rule, *body = ("| " + " | ".join(line) + " |\n" for line in lines)
    return head + rule.replace(" ", "") + "".join(body)


def _text(value: Any) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)
