"""Ids: UUIDv7 and their text."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.core import ids

MILLISECONDS = st.integers(min_value=0, max_value=(1 << 48) - 1)
UUIDS = st.integers(min_value=0, max_value=(1 << 128) - 1).map(lambda number: UUID(int=number))


@given(MILLISECONDS)
def test_new_id_is_a_uuid7_that_carries_its_time(unix_ms):
    """Version, variant and time are where RFC 9562 wants them."""
    made = ids.uuid7(unix_ms)
    assert (made.version, made.variant, made.int >> 80) == (7, "specified in RFC 4122", unix_ms)


@given(MILLISECONDS, st.integers(min_value=2, max_value=50))
def test_ids_of_one_millisecond_ascend(unix_ms, count):
    """Ids that one process makes within a millisecond sort in the order in which they were made."""
    made = [ids.uuid7(unix_ms) for _ in range(count)]
    assert made == sorted(set(made))


@given(MILLISECONDS, st.integers(min_value=0, max_value=50))
def test_ids_that_are_made_together_are_like_those_made_one_by_one(unix_ms, count):
    """They are UUIDv7 of their time, and ascend, also between one made before them and one made after."""
    made = [ids.uuid7(unix_ms), *ids.uuid7s(unix_ms, count), ids.uuid7(unix_ms)]
    assert (len(made), made) == (count + 2, sorted(set(made)))
    assert {(each.version, each.variant, each.int >> 80) for each in made} == {
        (7, "specified in RFC 4122", unix_ms)
    }


@given(UUIDS)
def test_text_leads_back_to_the_uuid(value):
    """Every UUID has a text of fixed length without dots that gives it back."""
    text = ids.to_text("evt", value)
    assert (ids.from_text("evt", text), len(text), "." in text) == (value, 30, False)


@given(UUIDS, UUIDS)
def test_texts_sort_like_their_uuids(one, other):
    """Comparing texts is comparing UUIDs."""
    assert (ids.to_text("evt", one) < ids.to_text("evt", other)) == (one < other)


@given(UUIDS)
def test_id_of_another_kind_is_not_one_of_this_kind(value):
    """An endpoint's id means nothing where an event's is wanted."""
    assert ids.from_text("evt", ids.to_text("ep", value)) is None


@given(st.text(max_size=40))
def test_any_text_is_an_id_or_none(text):
    """No text raises; what is taken is the text that the id has."""
    found = ids.from_text("evt", text)
    assert found is None or ids.to_text("evt", found) == text


@given(st.text(alphabet="0123456789abcdefghjkmnpqrstvwxyz", min_size=26, max_size=26))
def test_texts_beyond_128_bits_are_refused(tail):
    """26 characters hold 130 bits; the two too many must be zero."""
    found = ids.from_text("evt", f"evt_{tail}")
    assert (found is None) == (tail[0] not in "01234567")


@given(MILLISECONDS)
def test_lowest_uuid_bounds_the_millisecond(unix_ms):
    """A partition that begins at a millisecond holds all its ids."""
    assert ids.lowest_uuid_at(unix_ms) <= ids.uuid7(unix_ms)
