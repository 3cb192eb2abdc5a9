"""Whatever text comes from outside, each parser gives the right answer or refuses it in its own way; none errs.

Each property says both: which error is the parser's own, and what must hold of what it lets through.
"""

# ruff: noqa: PT017 - any other exception than the parser's own must fail the test

from __future__ import annotations

import json
import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.api import middleware
from app.api.schemas import Timestamp
from app.core import ids, pagination
from app.core.clock import rfc3339
from app.core.crypto import key_id_of, new_api_key
from app.core.egress import parse_literal
from app.core.errors import Invalid
from app.core.pointers import pointer_to
from app.core.settings import Settings
from app.endpoints.patterns import compile_patterns, event_type_fault, require_patterns
from app.endpoints.targets import check_url
from app.events.feed import Epoch, Position, decode_cursor, encode_cursor, require_types
from bellwire._headers import MAX_TIMESTAMP
from tests.unit.cli.conftest import RunPiped  # noqa: TC001 - pytest reads it
from tests.unit.cli.conftest import piped as piped  # noqa: PLC0414 - the fixture, for this file, too
from workers.http1.target import Target
from workers.outcome import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

# Lone surrogates, NUL, and all else that a str can hold.
ANY = st.text(st.characters(exclude_categories=()), max_size=60)
UUIDS = st.integers(0, 2**128 - 1).map(lambda number: UUID(int=number))
APPLICATION, EPOCH = UUID(int=7), Epoch(system=9, timeline=1)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
URL_SETTINGS = Settings.model_construct()


def mutated(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts of the right form, with a few characters changed, dropped, repeated, or put in."""

    @st.composite
    def changed(draw: Callable[..., object]) -> str:
        text = str(draw(texts))
        for _ in range(int(str(draw(st.integers(0, 3))))):
            at = int(str(draw(st.integers(0, len(text)))))
            upto = min(len(text), at + int(str(draw(st.integers(0, 2)))))
            text = (
                text[:at] + str(draw(st.text(st.characters(exclude_categories=()), max_size=2))) + text[upto:]
            )
        return text

    return changed()


@given(text=ANY | mutated(UUIDS.map(lambda value: ids.to_text("evt", value))))
@example("evt_" + "z" * 26)
@example("evt_0000000000000000000000000\u0660")
def test_ids(text: str):
    """What is taken as an id is the one text of that id: two texts never name the same object."""
    found = ids.from_text("evt", text)
    assert found is None or ids.to_text("evt", found) == text


@given(text=ANY | mutated(UUIDS.map(lambda value: pagination._encode(b"n", value))))
def test_cursors_of_lists(text: str):
    """A cursor means one place and leads back to it, or is refused with a pointer."""
    try:
        direction, anchor = pagination._decode(text)
    except Invalid as error:
        assert [fault.pointer for fault in error.errors] == ["/cursor"]
        return
    assert anchor is not None
    assert pagination._decode(pagination._encode(direction, anchor)) == (direction, anchor)


@given(
    text=ANY
    | mutated(
        st.builds(Position, st.integers(0, 2**64 - 1), UUIDS).map(
            lambda place: encode_cursor(place, application_id=APPLICATION, epoch=EPOCH)
        )
    )
)
def test_cursors_of_the_feed(text: str):
    """The same; one of another application or another database is refused as well."""
    try:
        place = decode_cursor(text, application_id=APPLICATION, epoch=EPOCH)
    except Invalid as error:
        assert [fault.pointer for fault in error.errors] == ["/cursor"]
        return
    again = encode_cursor(place, application_id=APPLICATION, epoch=EPOCH)
    assert decode_cursor(again, application_id=APPLICATION, epoch=EPOCH) == place


NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,5}(\.[A-Za-z0-9_-]{1,5}){0,3}", fullmatch=True)
PATTERNS = NAMES | NAMES.map(lambda name: name + ".*") | st.just("*")


@given(given_patterns=st.lists(ANY | mutated(PATTERNS), min_size=1, max_size=5), event_type=NAMES)
def test_patterns(given_patterns: list[str], event_type: str):
    """A list of patterns is taken and matches as the words of the reference say, or each fault is pointed at."""
    try:
        taken = require_patterns(given_patterns)
    except Invalid as error:
        assert all(re.fullmatch(r"/event_types/\d+", fault.pointer) for fault in error.errors)
        assert 1 <= len(error.errors) <= len(given_patterns)
        return
    assert taken == list(dict.fromkeys(given_patterns))
    # `*` alone is everything; at the end it stands for one or more whole segments.
    said = [
        pattern in {"*", event_type}
        or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]) and event_type != pattern[:-1])
        for pattern in taken
    ]
    assert compile_patterns(taken).matches(event_type) == any(said)


@given(text=ANY | st.lists(PATTERNS, min_size=1, max_size=4).map(",".join))
def test_types_of_the_feed(text: str):
    """Patterns separated by commas become SQL's own without any character that means more there, or are refused."""
    try:
        found = require_types(text)
    except Invalid as error:
        assert error.errors[0].pointer == "/types"
        return
    for pattern in found or ():
        assert re.fullmatch(r"([A-Za-z0-9.-]|\\_)+%?", pattern)


@given(text=ANY | mutated(NAMES))
def test_names_of_event_types(text: str):
    """A name is taken if it is letters, digits, _ and - in segments, at most 128 characters; else a sentence says why."""
    fault = event_type_fault(text)
    good = len(text) <= 128 and re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", text) is not None
    assert (fault is None) == good
    assert fault is None or fault.endswith(".")


@given(
    value=st.binary(max_size=80)
    | st.integers().map(lambda number: str(number).encode())
    | st.floats().map(lambda number: str(number).encode())
    | mutated(st.datetimes(timezones=st.just(UTC)).map(lambda at: format_datetime(at, usegmt=True))).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
)
@example(b"Fri, 31 Dec 99999 23:59:59 GMT")
@example(b"Sat, 31 Jan 2026 12:00:00 +9999")
def test_retry_after(value: bytes):
    """Any bytes are no wish, or a wait of at most a day."""
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or 0 <= seconds <= 86_400


@given(seconds=st.integers(0, 10**12), date=st.booleans())
def test_retry_after_that_is_right(seconds: int, *, date: bool):
    """Whole seconds and HTTP dates mean what they say, up to a day."""
    if date:
        assume(seconds < 10**10)
        value = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    else:
        value = str(seconds)
    assert parse_retry_after(value.encode(), now=NOW) == min(seconds, 86_400)


URLS = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "//", "javascript:", "http:/", "https:\\\\"]),
    st.sampled_from(["", "user@", "user:pass@", ":@", "%40@"]),
    st.sampled_from(
        ["example.com", "EXAMPLE.com.", "127.0.0.1", "127.1", "0x7f.1", "[::1]", "[::ffff:10.0.0.1]", "１２７.0.0.1",
         "ex ample.com", "a" * 64 + ".com", "münchen.de", "xn--", "169.254.169.254", "localhost", "2130706433", "[fe80::1%25eth0]"]
    ),
    st.sampled_from(["", ":80", ":443", ":0", ":65536", ":-1", ":22", ":8o", ":٤٤٣"]),
    st.sampled_from(["", "/", "/a?b#c", "?x=1", "#", "/\r\nHost: evil", "/%0d%0a", "\\@evil.com", "/\x00"]),
)  # fmt: skip


@settings(max_examples=300)
@given(text=ANY | URLS | mutated(URLS))
def test_urls_of_endpoints(text: str):
    """A URL is refused in words, or its stored form is stable, http, without user or fragment, and fit to be sent."""
    try:
        url = check_url(text, settings=URL_SETTINGS)
    except Invalid as error:
        assert [fault.pointer for fault in error.errors] == ["/url"]
        return
    assert check_url(url, settings=URL_SETTINGS) == url
    target = Target.from_url(url)
    assert target.scheme in {"http", "https"}
    literal = parse_literal(target.host)
    assert literal is None or literal.is_global
    for part in (target.path, target.host_header):
        assert re.fullmatch(rb"[!-~]+", part)
    assert "@" not in target.host
    assert "#" not in url


@given(text=ANY | URLS | mutated(URLS))
def test_targets(text: str):
    """A worker's own reading of a URL is a target whose every part can stand in a request, or ValueError."""
    try:
        target = Target.from_url(text)
    except ValueError:
        return
    assert target.post_head.count(b"\r\n") == 3
    assert target.post_head.isascii()


@given(parts=st.lists(ANY | st.integers(0, 10**6), max_size=5))
def test_json_pointers(parts: list[str | int]):
    """A pointer can be read back, part by part, by the rules of RFC 6901."""
    pointer = pointer_to(parts)
    read = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    assert read == [str(part) for part in parts]


@given(text=ANY | mutated(st.datetimes(timezones=st.just(UTC)).map(rfc3339)))
@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:59-23:59")
@example("2026-01-31T12:00:60Z")
@example("2026-01-31T12:00:00٠Z")
def test_times(text: str):
    """A time is read with its zone and leads back to itself, or pydantic's own error says why not."""
    adapter = TypeAdapter(Timestamp)
    try:
        found = adapter.validate_python(text)
    except ValidationError as error:
        assert error.error_count() == 1
        return
    assert found.tzinfo is not None
    assert adapter.validate_python(rfc3339(found)) == found


@given(
    text=ANY
    | st.builds(new_api_key).map(lambda key: key.text)
    | mutated(st.builds(new_api_key).map(lambda key: key.text))
)
def test_api_keys(text: str):
    """Any text has one name to be looked up by: a real key its own, all else a hash that can be no real key's by design."""
    assert re.fullmatch(r"[^_]{16}", key_id_of(text))


@given(value=st.binary(max_size=200) | st.from_regex(rb"[A-Za-z0-9._-]{1,130}", fullmatch=True))
def test_request_ids(value: bytes):
    """A request's id is taken if it can stand in a header and a log line, else made."""
    assert re.fullmatch(r"[A-Za-z0-9._:/+=@-]{1,128}", middleware._request_id(value))


@given(
    value=st.binary(max_size=80)
    | mutated(st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", fullmatch=True)).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
)
def test_traceparents(value: bytes):
    """A trace is passed on to receivers only in the form of W3C's Trace Context."""
    found = middleware._traceparent(value)
    assert found is None or re.fullmatch(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", found)


PRINTABLE = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)
# What argparse and the shell cannot pass on, nobody can type.
OPTION = PRINTABLE.filter(lambda text: not text.startswith("-"))
HMAC_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
GOOD_SECRETS = st.just(HMAC_SECRET) | st.binary(min_size=32, max_size=32).map(
    lambda seed: "whsk_" + b64encode(seed).decode()
)
SECRETS = (
    OPTION
    | GOOD_SECRETS
    | mutated(GOOD_SECRETS).filter(lambda text: text.isprintable() and not text.startswith("-"))
)
MESSAGE_IDS = OPTION | st.from_regex(r"[!-,/-~][!-\-/-~]{0,40}", fullmatch=True)
TIMESTAMPS = st.integers(0, MAX_TIMESTAMP) | st.integers() | PRINTABLE
LINES = OPTION | st.builds(
    "{}: {}".format, st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), PRINTABLE
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    secret=SECRETS, lines=st.lists(LINES, max_size=4), body=st.binary(max_size=50), tolerance=st.integers()
)
def test_verify_on_the_command_line(
    piped: RunPiped, secret: str, lines: list[str], body: bytes, tolerance: int
):
    """`bellwire verify` says why it is not verified (1) or what cannot be used (2), and never shows a traceback."""
    options = [part for line in lines for part in ("--header", line)]
    result = piped("verify", "--secret", secret, f"--tolerance={tolerance}", *options, stdin=body)
    assert result.exit_code in {1, 2}
    assert "Traceback" not in result.output


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=SECRETS, message_id=MESSAGE_IDS, timestamp=TIMESTAMPS, body=st.binary(max_size=50))
@example(secret="whsec_" + "0" * 32, message_id="0", timestamp=0, body=b"\xa3iM\xa8\xb4\x9f\xaaW\xae")
@example(secret=HMAC_SECRET, message_id="~!:,", timestamp=MAX_TIMESTAMP, body=b"")
@example(secret=HMAC_SECRET, message_id="0", timestamp="\u0661", body=b"")
def test_sign_and_verify_on_the_command_line(
    piped: RunPiped, secret: str, message_id: str, timestamp: object, body: bytes
):
    """What `bellwire sign` prints, `bellwire verify` accepts; all else is said to be unusable."""
    arguments = ("--secret", secret, "--id", message_id, f"--timestamp={timestamp}")
    signed = piped("sign", *arguments, stdin=body)
    if signed.exit_code != 0:
        assert signed.exit_code == 2
        assert "Traceback" not in signed.output
        return
    headers = json.loads(signed.stdout)  # Piped, the three headers come as one JSON object.
    lines = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    verified = piped("verify", "--secret", secret, "--any-age", *lines, stdin=body)
    assert verified.exit_code == 0, verified.output


@pytest.mark.parametrize("command", ["publish", "tail", "list", "show"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=st.lists(PRINTABLE, max_size=3))
def test_events_on_the_command_line(piped: RunPiped, command: str, arguments: list[str]):
    """Any words after `bellwire events ...` end with a usage error, or with the sentence that the API is not there."""
    result = piped("events", command, *arguments)
    assert result.exit_code in {0, 2, 3, 4}
    assert "Traceback" not in result.output
