"""Cursors of keyset pages (their queries are tested on Postgres with the lists)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import pagination
from app.core.errors import Invalid


@given(st.uuids(), st.sampled_from([b"n", b"p"]))
def test_cursor_leads_back_to_its_row_and_direction(row_id, direction):
    """What a page hands out is understood when it comes back."""
    assert pagination._decode(pagination._encode(direction, row_id)) == (direction, row_id)


@given(st.text(max_size=60))
def test_no_text_is_taken_for_a_cursor_that_it_is_not(text):
    """Any text is a cursor of ours or Invalid with a pointer, never another error."""
    try:
        found = pagination._decode(text)
    except Invalid as error:
        found = error.errors[0].pointer
    assert found == "/cursor" or found == pagination._decode(pagination._encode(*found))


def test_no_cursor_is_the_newest_page():
    """Without a cursor a list begins at its newest row."""
    assert pagination._decode(None) == (b"n", None)


@pytest.mark.parametrize("text", ["", "=", "bg", "ä", "n" * 24, "../../etc/passwd"])
def test_foreign_cursors_are_refused(text):
    """Texts that callers make up are refused with the way out."""
    with pytest.raises(Invalid, match="Leave it out"):
        pagination._decode(text)
