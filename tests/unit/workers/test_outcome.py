"""What an attempt means."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.error_classes import ErrorClass
from workers.http1.errors import BlockedAddress, HeadersTooLarge, ReadTimeout
from workers.http1.exchange import ConnectionInfo, Exchange, Timings
from workers.outcome import Outcome, classify_error, classify_exchange, parse_retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make_exchange(status: int, *headers: tuple[bytes, bytes], note: str | None = None) -> Exchange:
    return Exchange(
        status=status,
        headers=list(headers),
        body=b"",
        body_truncated=False,
        timings=Timings(),
        connection=ConnectionInfo(ip="192.0.2.1", reused=False),
        note=note,
    )


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_success(status):
    """Any 2xx settles the delivery."""
    assert classify_exchange(make_exchange(status), now=NOW) == Outcome(succeeded=True, status=status)


def test_a_broken_body_after_2xx_is_success_with_a_note():
    """The status line decides; what was wrong afterwards is kept as a note."""
    outcome = classify_exchange(make_exchange(200, note="The connection was reset."), now=NOW)

    assert outcome == Outcome(succeeded=True, status=200, note="The connection was reset.")


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (302, ErrorClass.HTTP_3XX),
        (400, ErrorClass.HTTP_4XX),
        (404, ErrorClass.HTTP_4XX),
        (410, ErrorClass.HTTP_410),
        (429, ErrorClass.HTTP_429),
        (500, ErrorClass.HTTP_5XX),
        (700, ErrorClass.PROTOCOL_ERROR),
    ],
)
def test_other_statuses_fail_in_words(status, error_class):
    """A failure has a class, a sentence with the status, and a hint."""
    outcome = classify_exchange(make_exchange(status), now=NOW)

    assert not outcome.succeeded
    assert outcome.error_class is error_class
    assert f"(HTTP {status})" in outcome.message
    assert outcome.hint


def test_only_410_is_gone():
    """410 disables the endpoint; 404 does not."""
    gone = [classify_exchange(make_exchange(status), now=NOW).gone for status in (404, 410, 411)]

    assert gone == [False, True, False]


def test_a_redirect_names_its_target_without_its_query():
    """The target helps the person; its query may hold a secret."""
    exchange = make_exchange(301, (b"Location", b"https://example.com/new\x00?token=secret#x"))

    outcome = classify_exchange(exchange, now=NOW)

    assert "https://example.com/new\N{REPLACEMENT CHARACTER}." in outcome.message
    assert "secret" not in outcome.message


def test_a_long_redirect_is_cut():
    """A receiver cannot fill the log through Location."""
    outcome = classify_exchange(make_exchange(307, (b"location", b"/" * 8_000)), now=NOW)

    assert len(outcome.message) < 500


@pytest.mark.parametrize(
    ("status", "expected"), [(429, 7.0), (503, 7.0), (500, None), (301, None), (200, None)]
)
def test_retry_after_is_honoured_on_429_and_503_only(status, expected):
    """Elsewhere the header is ignored."""
    outcome = classify_exchange(make_exchange(status, (b"RETRY-AFTER", b"7")), now=NOW)

    assert outcome.retry_after_seconds == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"120", 120.0),
        (b" 120 ", 120.0),
        (b"86400", 86_400.0),
        (b"86401", 86_400.0),
        (b"1" + b"0" * 12, 86_400.0),
        (b"9" * 64, 86_400.0),
        (b"Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        (b"Thursday, 01-Jan-26 00:01:00 GMT", 60.0),
        (b"Thu Jan  1 00:01:00 2026", 60.0),
        (b"Thu, 01 Jan 2026 01:01:00 +0100", 60.0),
        (b"Thu, 01 Jan 2026 00:00:00 GMT", 0.0),
        (b"Fri, 01 Jan 2027 00:00:00 GMT", 86_400.0),
        (b"Wed, 31 Dec 2025 23:59:59 GMT", None),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", None),
        (b"", None),
        (b"   ", None),
        (b"-1", None),
        (b"+1", None),
        (b"1.5", None),
        (b"1e12", None),
        (b"0x10", None),
        (b"\xb2", None),
        (b"\xd9\xa1", None),
        (b"soon", None),
        (b"nan", None),
        (b"inf", None),
        (b"120, 240", None),
        (b"Thu, 99 Jan 2026 00:00:00 GMT", None),
        (b"Thu, 01 Jan 99999 00:00:00 GMT", None),
        (b"Thu, 01 Jan 2026 00:00:00 +9999", None),
        (b"9" * 65, None),
        (b"\x00\xff", None),
    ],
)
def test_parses_retry_after(value, seconds):
    """Seconds and HTTP dates in all three forms, clamped to a day; all else is ignored."""
    assert parse_retry_after(value, now=NOW) == seconds


@given(st.binary(max_size=80) | st.text(max_size=40).map(lambda text: text.encode()))
def test_any_retry_after_is_bounded_or_ignored(value):
    """No bytes make it raise, wait longer than a day, or wait backwards."""
    seconds = parse_retry_after(value, now=NOW)

    assert seconds is None or 0 <= seconds <= 86_400


@given(st.integers(min_value=0, max_value=172_800))
def test_an_http_date_means_the_same_as_its_seconds(seconds):
    """Both forms of the header give the same delay."""
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True).encode()

    assert parse_retry_after(date, now=NOW) == parse_retry_after(b"%d" % seconds, now=NOW)


def test_an_error_without_an_answer_keeps_its_class_and_words():
    """The engine's sentence stands behind the one of the table."""
    outcome = classify_error(ReadTimeout("No answer came within 15.0 s."))

    assert outcome.error_class is ErrorClass.READ_TIMEOUT
    assert outcome.message.endswith("No answer came within 15.0 s.")
    assert not outcome.blocked


def test_a_blocked_target_is_marked():
    """Three of them make a delivery dead, so the drain must see it."""
    outcome = classify_error(BlockedAddress("The address is private."))

    assert outcome.blocked
    assert outcome.error_class is ErrorClass.BLOCKED_ADDRESS


def test_an_oversized_head_fails_although_its_status_was_good():
    """The status is kept for the log, and does not make it a success."""
    outcome = classify_error(HeadersTooLarge("Too many.", status=200))

    assert (outcome.succeeded, outcome.status) == (False, 200)
