"""CSV for spreadsheets: cells are text."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.spreadsheet import csv_lines

FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"


@given(st.lists(st.lists(st.text(max_size=20), min_size=1, max_size=4), max_size=4))
def test_no_cell_begins_like_a_formula(rows: list[list[str]]) -> None:
    """Whatever is written, no cell's first character but blanks starts a formula, and the text is still all there."""
    read = list(csv.reader(io.StringIO(csv_lines(rows), newline="")))

    assert len(read) == len(rows)
    for row, cells in zip(rows, read, strict=True):
        for value, cell in zip(row, cells, strict=True):
            assert cell.lstrip(" ")[:1] not in FORMULA or not cell.strip(" ")
            assert cell in {value, "'" + value}


@pytest.mark.parametrize("first", FORMULA)
def test_each_character_that_starts_a_formula_is_disarmed(first: str) -> None:
    """One by one, with blanks before it too."""
    for value in (f"{first}1", f"  {first}1", first):
        assert next(csv.reader(io.StringIO(csv_lines([[value]]), newline=""))) == ["'" + value]


@pytest.mark.parametrize("value", ["", "text", "1-2", "a=b", '{"n":-1}', "'already"])
def test_other_cells_stay_as_they_are(value: str) -> None:
    """Only what would be run is changed."""
    assert next(csv.reader(io.StringIO(csv_lines([[value, None]]), newline=""))) == [value, ""]
