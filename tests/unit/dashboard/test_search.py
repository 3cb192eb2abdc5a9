"""The query language: what is understood, what is not and how that is said, and what a row must be like."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import ids
from app.dashboard.search import MAX_LENGTH, MAX_TERMS, QUALIFIERS, Candidate, parse
from app.dashboard.search.words import quote, split

DELIVERY = UUID("01998000-0000-7000-8000-000000000001")
EVENT = UUID("01998000-0000-7000-8000-000000000002")
ENDPOINT = UUID("01998000-0000-7000-8000-000000000003")
APPLICATION = UUID("01998000-0000-7000-8000-000000000004")
ATTEMPT = UUID("01998000-0000-7000-8000-000000000005")


def _row(**fields: Any) -> Candidate:
    defaults: dict[str, Any] = {
        "delivery_id": DELIVERY,
        "event_id": EVENT,
        "endpoint_id": ENDPOINT,
        "application_id": APPLICATION,
        "attempt_id": ATTEMPT,
        "application_uid": "acme",
        "event_type": "order.placed",
        "url": "https://shop.example.com/hooks?token=hidden",
        "state": "pending",
        "attempts": 2,
        "code": 503,
        "error_class": "http_5xx",
        "duration_ms": 1_500.0,
        "data": b'{"order":{"id":42,"total":42.50,"tags":["new","big"]},"lines":[{"sku":"A1"},{"sku":"B2"}],"paid":true}',
        "headers": (("Server", "nginx/1.27"), ("webhook-id", "evt_1")),
    }
    return Candidate(**(defaults | fields))


@pytest.mark.parametrize(
    "text",
    [
        "status:odd",
        "code:999",
        "code:teapot",
        "attempt:many",
        "attempt:>-1",
        "attempt:9999999999999999999999",
        "duration:2",
        "duration:>fast",
        "data.:1",
        "data..id:1",
        "data.order.id:",
        "header.:x",
        "endpoint:ep_123",
        "colour:red",
        "status:",
        "type:,",
        '"never closed',
        '""',
        "evt_uuuuuuuuuuuuuuuuuuuuuuuuuu",
        "evt_zzzzzzzzzzzzzzzzzzzzzzzzzz",
        "-data.x:1",
        "-duration:>1s",
        "-header.x:1",
        "a\0b",
        "x" * (MAX_LENGTH + 1),
        "a " * (MAX_TERMS + 1),
    ],
)
def test_what_is_not_understood_says_so_and_finds_nothing(text: str) -> None:
    """One sentence beside the part; rows that were not asked for would mislead."""
    query = parse(text)

    assert len(query.faults) == 1
    assert query.faults[0][1].endswith((".", '"quotes".'))
    assert not query.matches(_row())


def test_one_bad_term_does_not_hide_the_good_ones() -> None:
    """The chips of the others stay, so that the bad one can be mended."""
    query = parse("status:dead colour:red type:order.*")

    assert [term.said for term in query.terms] == ["status:dead", "type:order.*"]
    assert [said for said, _ in query.faults] == ["colour:red"]


@given(st.text(max_size=MAX_LENGTH + 5))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """And a row can always be judged."""
    query = parse(text)

    assert query.matches(_row()) in {True, False}
    assert "".join(term.said for term in query.terms).isprintable() or text != ""


@given(
    st.lists(
        st.one_of(
            st.sampled_from([qualifier.name for qualifier in QUALIFIERS]),
            st.sampled_from(['"', "-", ":", ",", "..", ">", "*", "\\", " ", ".", "evt_", "5xx", "42", "ms"]),
            st.text(max_size=5),
        ),
        max_size=20,
    ).map("".join)
)
def test_any_heap_of_the_languages_own_pieces_is_understood_or_refused(text: str) -> None:
    """Nothing that looks almost like a term makes the parser fail."""
    assert parse(text).matches(_row()) in {True, False}


@given(st.text(min_size=1, max_size=20).filter(lambda text: not any(ord(c) < 32 for c in text)))
def test_a_quoted_value_comes_back_whole(value: str) -> None:
    """So links can be made of anything."""
    (word,) = split(f"type:{quote(value)}")

    assert (word.name, word.value) == ("type", value)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        (ids.to_text(ids.DELIVERY, DELIVERY), True),
        (ids.to_text(ids.EVENT, EVENT)[:14], True),
        (ids.to_text(ids.ATTEMPT, ATTEMPT).upper(), True),
        (ids.to_text(ids.EVENT, DELIVERY), False),
        ("-" + ids.to_text(ids.ENDPOINT, ENDPOINT), False),
        ("ORDER", True),
        ("shop.example.com", True),
        ("https://shop.example.com", True),
        ("shop.example.com:443", False),
        ("localhost:8080", False),
        ("hidden", False),
        ("status:pending", True),
        ("status:retrying", True),
        ("status:sending,dead", False),
        ("-status:dead", True),
        ("code:503", True),
        ("code:5xx", True),
        ("code:4XX,502", False),
        ("code:http_5xx", True),
        ("code:timeout", False),
        ("code:none", False),
        ("type:order.placed", True),
        ("type:order.*", True),
        ("type:*.placed", True),
        ("type:order", False),
        ("type:order.p%", False),
        ("type:user.created,order.*", True),
        ("application:acme", True),
        (f"application:{ids.to_text(ids.APPLICATION, APPLICATION)}", True),
        ("application:other", False),
        ("endpoint:hooks", True),
        ("endpoint:token", False),
        (f"endpoint:{ids.to_text(ids.ENDPOINT, ENDPOINT)}", True),
        ("attempt:2", True),
        ("attempt:>1", True),
        ("attempt:>2", False),
        ("attempt:>=2", True),
        ("attempt:1..2", True),
        ("-attempt:2", False),
        ("duration:>1s", True),
        ("duration:>1.5s", False),
        ("duration:500ms..2s", True),
        ("duration:<1m", True),
        ("data.order.id:42", True),
        ("data.order.id:42.0", True),
        ("data.order.id:4.2e1", True),
        ('data.order.id:"42"', False),
        ("data.order.total:42.5", True),
        ("data.order.id:43", False),
        ("data.paid:true", True),
        ('data.paid:"true"', False),
        ("data.paid:1", False),
        ("data.order.tags:big", True),
        ("data.lines.sku:B2", True),
        ("data.lines.sku:B*", True),
        ("data.lines.sku:C*", False),
        ("data.lines.sku:*", True),
        ("data.nothing:*", False),
        ("header.server:NGINX", True),
        ("header.Server:*", True),
        ("header.server:apache", False),
        ("status:pending code:5xx type:order.* data.order.id:42", True),
        ("status:pending code:4xx", False),
        ('"order.placed"', True),
        ('"order placed"', False),
    ],
)
def test_a_row_is_found_by_what_is_true_of_it(text: str, *, fits: bool) -> None:
    """All terms must hold; a `-` turns one round."""
    query = parse(text)

    assert query.faults == ()
    assert query.matches(_row()) is fits


def test_large_numbers_are_not_rounded() -> None:
    """9007199254740993 is not its neighbour, and a number of 5,000 digits is no fault."""
    row = _row(data=b'{"id":9007199254740993,"long":' + b"9" * 5_000 + b"}")

    assert parse("data.id:9007199254740993").matches(row)
    assert not parse("data.id:9007199254740992").matches(row)
    assert not parse("data.long:9").matches(row)


@pytest.mark.parametrize("data", [None, b"", b"\xff", b"{", b"[" * 5_000, b"1", b"null"])
def test_data_that_has_no_such_place_does_not_match(data: bytes | None) -> None:
    """Whatever it is."""
    assert not parse("data.order.id:42").matches(_row(data=data))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ids.to_text(ids.EVENT, EVENT), True),
        (ids.to_text(ids.DELIVERY, DELIVERY), True),
        (ids.to_text(ids.EVENT, EVENT)[:14], False),
        ("-" + ids.to_text(ids.EVENT, EVENT), False),
        (ids.to_text(ids.ENDPOINT, ENDPOINT), False),
        ("order", False),
    ],
)
def test_one_object_is_looked_for_anywhen(text: str, *, expected: bool) -> None:
    """Who has an id does not know when it was made."""
    assert parse(text).anywhen is expected


def test_a_query_says_what_its_candidates_need() -> None:
    """Data and headers are read only for those who ask for them."""

    def needs(text: str) -> tuple[bool, bool]:
        return parse(text).needs_data, parse(text).needs_headers

    assert needs("status:dead") == (False, False)
    assert needs("data.x:1") == (True, False)
    assert needs("header.x:1") == (False, True)
