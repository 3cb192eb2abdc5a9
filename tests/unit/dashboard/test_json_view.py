"""Bodies as HTML: the text that was stored, coloured, and never anything but text."""

from __future__ import annotations

import html
import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dashboard import json_view
from app.dashboard.json_view import json_html, tokens_of
from app.dashboard.words import size

TAG = re.compile(r"<[^>]*>")
ALLOWED = re.compile(
    r'</?(?:code|details|summary|p|pre|span)>|<span class="(?:[ksnw]|unseen)">|<details class="fold">'
    r'|<p class="(?:muted )?body-note">|<pre class="body" tabindex="0" role="region" aria-label="[\w, ]+">'
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def text_of(block: str) -> str:
    """Return the text that a browser would show of the body alone."""
    parts = re.findall(r"<code>(.*?)</code>", block, re.DOTALL)
    return html.unescape("\n".join(TAG.sub("", part) for part in parts))


def without_space(text: str) -> str:
    """Return JSON text without the space between its tokens."""
    tokens = tokens_of(text)
    assert tokens is not None, text
    return "".join(part for kind, part in tokens if kind != "space")


def test_numbers_keep_their_digits() -> None:
    """Neither a 64-bit integer nor a trailing zero is lost, pretty or not."""
    body = b'{"id":9007199254740993,"price":1.10,"big":1e400,"odd":-0.0}'

    for pretty in (False, True):
        shown = json_html(body, pretty=pretty)
        for number in ("9007199254740993", "1.10", "1e400", "-0.0"):
            assert f'<span class="n">{number}</span>' in shown


def test_order_and_repeated_keys_stay() -> None:
    """What a parser would merge or sort is shown as it was stored."""
    assert text_of(json_html(b'{"b": 1, "a": 2, "b": 3}', pretty=True)) == (
        '{\n  "b": 1,\n  "a": 2,\n  "b": 3\n}'
    )


def test_markup_stays_text() -> None:
    """In strings, in keys, and in what is no JSON at all."""
    for body in (
        b'{"<b>k</b>": "<script>alert(1)</script>"}',
        b"<script>alert(1)</script>",
        b'"</code></pre>"',
    ):
        shown = json_html(body, pretty=True)
        assert "<script" not in shown
        assert "<b>" not in shown
        assert text_of(shown).replace(" ", "").replace("\n", "") == body.decode().replace(" ", "")


def test_what_is_no_json_is_plain_text() -> None:
    """An error page of a proxy is not coloured, and its lines stay as they were."""
    page = 'upstream connect error 503\n\treset, "reason": null\n'

    shown = json_html(page, pretty=True)

    assert text_of(shown) == page
    assert "<span" not in shown


def test_invalid_utf8_is_shown_and_said() -> None:
    """Bytes that are no text are replaced, and a sentence says so."""
    shown = json_html(b'{"name": "\xff\xfe"}')

    assert "not UTF-8" in shown
    assert text_of(shown) == '{"name": "\ufffd\ufffd"}'


def test_a_character_cut_in_two_is_no_fault() -> None:
    """The end of a truncated body may lie within a character; the rest is UTF-8 all the same."""
    shown = json_html('{"name": "é'.encode()[:-1], truncated=True)

    assert "not UTF-8" not in shown
    assert "Truncated: the first 11 B were kept." in shown


def test_unseen_characters_are_seen() -> None:
    """A character that turns the reading order cannot make a body look like another."""
    shown = json_html('{"file": "exe.\u202egpj", "nul": "\x00"}')

    assert "\u202e" not in shown
    assert "\x00" not in shown
    assert '<span class="unseen">U+202E</span>' in shown
    assert '<span class="unseen">U+0000</span>' in shown


def test_a_long_body_folds() -> None:
    """The beginning is open, the rest behind a fold that says how much it is, and nothing is lost between them."""
    body = json.dumps({f"key{n}": n for n in range(200)}).encode()

    shown = json_html(body, pretty=True)

    assert f"Show 142 more lines ({size(len(body))} in all)" in shown
    assert json.loads(text_of(shown)) == json.loads(body)


def test_an_empty_body_says_so() -> None:
    """Nothing is not shown as an empty box."""
    assert "Empty: 0 bytes." in json_html(b"")


@given(value=VALUES, pretty=st.booleans(), indent=st.sampled_from([None, 1, 4]))
def test_any_json_is_shown_whole(*, value: object, pretty: bool, indent: int | None) -> None:
    """Whatever the value, only the space between tokens may differ from what was stored."""
    body = json.dumps(value, indent=indent)

    shown = json_html(body.encode(), pretty=pretty)

    if pretty:
        assert without_space(text_of(shown)) == without_space(body)
        assert json.loads(text_of(shown)) == value
    else:
        assert text_of(shown) == body


@given(body=st.binary() | st.text(), pretty=st.booleans(), truncated=st.booleans())
def test_any_body_is_safe(*, body: bytes | str, pretty: bool, truncated: bool) -> None:
    """No input adds a tag, an attribute or an entity of its own, and all of it can be sent as UTF-8."""
    shown = json_html(body, pretty=pretty, truncated=truncated)

    shown.encode()
    assert "<" not in ALLOWED.sub("", shown)
    assert "\x00" not in shown


@given(body=st.text(alphabet='{}[],:" \\\n0"truefalsn<&-.e1', max_size=60), pretty=st.booleans())
def test_what_looks_like_json_keeps_its_text(*, body: str, pretty: bool) -> None:
    """Broken JSON loses and gains nothing but space."""
    shown = text_of(json_html(body, pretty=pretty)) if body else ""

    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b"[1," * 300_000,
        b'"\\' * 500_000,
        b'""  ' * 250_000,
        b'{"a":' * 200_000,
        b"-" * 1_000_000,
        b"<" * 1_000_000,
        b"\n" * 1_000_000,
        b"\x00" * 1_000_000,
    ],
    ids=["brackets", "arrays", "escapes", "strings", "objects", "dashes", "markup", "lines", "nul"],
)
def test_a_hostile_body_costs_no_more_than_its_length(body: bytes) -> None:
    """Pages stay small and quick, whatever a receiver answers."""
    started = time.process_time()

    shown = json_html(body, pretty=True)

    assert len(shown) < 40 * json_view.SHOWN_BYTES
    assert time.process_time() - started < 10
