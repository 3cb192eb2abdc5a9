"""An endpoint's own headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import Invalid
from app.endpoints.headers import MASK, check_headers, header_fault, masked, merge_headers
from workers.http1.request import encode_headers


@pytest.mark.parametrize(
    "name",
    [
        *("host", "Content-Length", "TRANSFER-ENCODING", "connection", "te", "trailer", "upgrade", "expect"),
        *("proxy-connection", "Proxy-Authorization", "webhook-id", "Webhook-Anything", "accept-encoding"),
        *("", "a b", "a:b", "ä", "a\r\nb", "a" * 129),
    ],
)
def test_names_that_are_refused(name: str) -> None:
    """Framing, proxies, our own headers, and what is no RFC 9110 token."""
    assert header_fault(name, "value") is not None


@pytest.mark.parametrize("value", ["", " a", "a ", "a\nb", "a\r\nHost: b", "a\0b", "ü", "\x7f", "a" * 4_097])
def test_values_that_are_refused(value: str) -> None:
    """Control characters, non-ASCII, blank ends, nothing at all, and what is too long."""
    assert header_fault("X-A", value) is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [("Authorization", "Bearer a.b-c"), ("X-Two-Words", "a \t b"), ("content-type", "text/json"), ("x", "~")],
)
def test_ordinary_headers_are_allowed(name: str, value: str) -> None:
    """What receivers ask for can be set."""
    assert header_fault(name, value) is None


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_is_allowed_can_be_sent(name: str, value: str) -> None:
    """Whatever passes the check is a legal header for the engine and adds exactly one line."""
    if header_fault(name, value) is None:
        encoded = encode_headers([(name.encode("latin-1"), value.encode("latin-1"))])
        assert encoded.count(b"\r\n") == 1


@pytest.mark.parametrize(
    ("headers", "pointer"),
    [
        ({"X-A": "1", "x-a": "2"}, "/headers/x-a"),
        ({"a/b~c": "1"}, "/headers/a~1b~0c"),
        ({f"X-{n}": "1" for n in range(33)}, "/headers"),
        ({"X-A": "a" * 4_000, "X-B": "a" * 4_000}, "/headers"),
    ],
)
def test_faults_are_pointed_at(headers: dict[str, str], pointer: str) -> None:
    """Repetitions, odd names, too many and too much."""
    with pytest.raises(Invalid) as caught:
        check_headers(headers)
    assert [error.pointer for error in caught.value.errors] == [pointer]


def test_masked_value_stands_for_the_stored_one() -> None:
    """What is shown can be sent back: masked values stay, others replace, what is missing goes."""
    stored = {"Authorization": "secret", "X-A": "1", "X-B": "1"}
    given_back = masked(stored) | {"X-A": "2"}
    del given_back["X-B"]
    assert merge_headers(stored, given_back) == {"Authorization": "secret", "X-A": "2"}


def test_mask_without_a_stored_value_is_refused() -> None:
    """A mask for a header that is not there would store the mask."""
    with pytest.raises(Invalid) as caught:
        merge_headers({"X-A": "1"}, {"x-a": MASK, "X-B": MASK})
    assert [error.pointer for error in caught.value.errors] == ["/headers/X-B"]
