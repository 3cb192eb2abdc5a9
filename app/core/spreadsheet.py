"""CSV that spreadsheets open as text: no cell is a formula, whatever somebody managed to put into it.

A program that opens a file takes a cell which begins with one of a few characters for a formula and runs it, with the
rights of whoever looks at the file (CWE-1236). Such a cell gets an apostrophe in front, which programs show as text.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# The last four are the full-width forms, which some programs take for the same.
_FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_APOSTROPHE = "'"


def csv_lines(rows: Iterable[Iterable[str | None]]) -> str:
    """Return rows as lines of CSV (RFC 4180); None is an empty cell."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _cell(value: str | None) -> str:
    if value is None:
        return ""
    # Programs skip blanks before they look for a formula.
    return _APOSTROPHE + value if value.lstrip(" ")[:1] in _FORMULA else value
