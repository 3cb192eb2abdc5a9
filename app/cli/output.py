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
_SECONDS_END = len("2026-01-31T12:00:00")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its heading, and the dotted path of its value in a row.

    What must stay whole (ids, to be copied) is never cut; other text is, so that a row stays one line. On a
    terminal of fewer characters than `min_terminal` the column is left out; `--json` has everything.
    """

    heading: str
    path: str
    keep_whole: bool = False
    min_terminal: int = 0
    wrap: bool = False


def wants_json(flag: bool) -> bool:  # noqa: FBT001 - the flag of the command line itself
    """Tell whether to print JSON: asked for, or nobody is looking."""
    return flag or not sys.stdout.isatty()


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, empty: str) -> None:
    """Print rows as a table; where there are none, the sentence `empty` on standard error."""
    from rich import box
    from rich.table import Table

    console = _console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    shown = [column for column in columns if console.width >= column.min_terminal]
    for column in shown:
        # rich takes room from columns that may wrap only; that a cell stays on one line is said by the cell.
        table.add_column(column.heading, no_wrap=column.keep_whole)
    for row in rows:
        table.add_row(*(_cell(value_at(row, column.path), one_line=not column.wrap) for column in shown))
    if not table.row_count:
        hint(empty)
        return
    console.print(table)


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


def shown_time(text: Any) -> Any:
    """Return an RFC 3339 time of the API for people: to the second, in UTC."""
    return text[:_SECONDS_END].replace("T", " ") if isinstance(text, str) else text


def visible(text: str) -> str:
    """Return the text with its control characters made harmless."""
    return _CONTROL.sub(_REPLACEMENT, text)


def _cell(value: Any, *, one_line: bool = False) -> Text:
    from rich.text import Text

    if value is None:
        return Text("–", style="dim")
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, str | int | float):
        text = str(value)
    else:
        text = json.dumps(value, ensure_ascii=False)
    return Text(
        visible(text),
        style=STYLES.get(text, ""),
        no_wrap=one_line,
        overflow="ellipsis" if one_line else "fold",
    )


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
