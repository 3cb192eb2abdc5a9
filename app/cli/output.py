"""What a command prints: a table for a person at a terminal, JSON for a program.

Answers go to standard output, everything else (errors, hints) to standard error, so that a pipe gets data only.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console
    from rich.text import Text

AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON also on a terminal. When piped it always is.")
]

STYLES: Mapping[str, str] = {
    "succeeded": "green",
    "dead": "red",
    "failed": "red",
    "unknown": "yellow",
    "pending": "yellow",
    "sending": "cyan",
    "cancelled": "dim",
}
# Text from receivers and publishers is shown, never obeyed: no escape sequence reaches the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its heading, and the dotted path of its value in a row."""

    heading: str
    path: str
    keep_whole: bool = False


def wants_json(flag: bool) -> bool:  # noqa: FBT001 - the flag of the command line itself
    """Tell whether to print JSON: asked for, or nobody is looking."""
    return flag or not sys.stdout.isatty()


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column], *, empty: str) -> None:
    """Print rows as a table; where there are none, the sentence `empty` on standard error."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.heading, no_wrap=column.keep_whole, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value_at(row, column.path)) for column in columns))
    if not table.row_count:
        hint(empty)
        return
    _console().print(table)


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print names and values below each other, the values whole."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in fields:
        grid.add_row(name, _cell(value))
    _console().print(grid)


def hint(text: str) -> None:
    """Say something that is not the answer, on standard error."""
    typer.echo(visible(text), err=True)


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, or None where it ends early."""
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def visible(text: str) -> str:
    """Return the text with its control characters made harmless."""
    return _CONTROL.sub(_REPLACEMENT, text)


def _cell(value: Any) -> Text:
    from rich.text import Text

    if value is None:
        return Text("–", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if not isinstance(value, str):
        value = value if isinstance(value, int | float) else json.dumps(value, ensure_ascii=False)
    text = str(value)
    return Text(visible(text), style=STYLES.get(text, ""))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
