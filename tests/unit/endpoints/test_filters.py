"""Content filters of subscriptions."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import Invalid
from app.endpoints.filters import MAX_LENGTH, MAX_VALUES, FilterError, compile_filter

ORDER = {
    "amount": 150,
    "price": 1.5,
    "currency": "EUR",
    "note": None,
    "customer": {"tier": "gold", "tags": ["vip", "eu"]},
    "items": [{"sku": "a", "quantity": 2, "price": 10}, {"sku": "b", "quantity": 1, "price": 90}],
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("data.amount > 100 && data.currency == 'EUR'", True),
        ("data.amount > 100 && data.currency == 'USD'", False),
        ("data.amount > 100.5", True),
        ("data.price < 2", True),
        ("data.note == null", True),
        ("type == 'order.placed'", True),
        ("type.startsWith('order.') && !type.endsWith('.failed')", True),
        ("metadata.region == 'eu'", True),
        ("'region' in metadata", True),
        ("has(data.customer.tier)", True),
        ("has(data.customer.age)", False),
        ("has(data.nothing) && data.nothing.deep > 1", False),
        ("data.missing == 1 || data.amount == 150", True),
        ("data['currency'] in ['EUR', 'CHF']", True),
        ("data.items[0].sku == 'a'", True),
        ("size(data.items) == 2", True),
        ("data.items.all(i, i.quantity > 0)", True),
        ("data.items.exists(i, i.sku == 'c')", False),
        ("data.items.exists_one(i, i.price > 50)", True),
        ("data.items.filter(i, i.price > 50).size() == 1", True),
        ("data.items.map(i, i.price * i.quantity).exists(total, total == 90)", True),
        ("data.items.map(i, double(i.price) * 1.5).exists(total, total == 135.0)", True),
        ("data.items.filter(i, i.price > 5).all(i, i.quantity > 0)", True),
        ("data.customer.tags.exists(t, t in ['vip'])", True),
        ("data.currency.matches('^[A-Z]{3}$')", True),
        ("data.currency == data['currency']", True),
        ("data == data", True),
        ("data.amount // the total\n  == 150", True),
        (r"data.currency != r'\'", True),
        ("'data.items.all(i, i.x.all(j, true))' != data.currency", True),
    ],
)
def test_filter_decides_by_type_data_and_metadata(source: str, *, expected: bool) -> None:
    """A filter sees the event's type, data and metadata, and gives yes or no."""
    compiled = compile_filter(source)
    assert compiled.matches("order.placed", ORDER, {"region": "eu"}) is expected


@pytest.mark.parametrize(
    ("source", "data", "words"),
    [
        ("data.missing == 1", ORDER, "no key 'missing'"),
        ("data.customer.age > 18", ORDER, "no key 'age'"),
        ("data.items[7].sku == 'a'", ORDER, "shorter"),
        ("data.amount + 'x' == 'y'", ORDER, "types"),
        ("data.customer.tier.deep == 1", ORDER, "types"),
        ("data.amount", ORDER, "a number, not true or false"),
        ("data.note", ORDER, "null"),
        ("data / 0 == 1", 5, "divided by zero"),
        ("data + 1 > 0", 2**63 - 1, "out of range"),
        ("timestamp(data) > timestamp('2020-01-01T00:00:00Z')", "yesterday", "failed on this event"),
        ("data == 'a'", "\ud800", "failed on this event"),
        ("metadata.region == 'eu'", ORDER, "no key 'region'"),
    ],
)
def test_evaluation_errors_are_explained(source: str, data: Any, words: str) -> None:
    """What cannot be told is an error of its own with a sentence, never an answer."""
    compiled = compile_filter(source)
    with pytest.raises(FilterError, match=words):
        compiled.matches("order.placed", data, None)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("data.amount >", "line 1, column 14, it ends too early"),
        ("", "line 1, column 1, it ends too early"),
        ("type == 'a' &&\n data. > 3", "line 2, column 8"),
        ("data.a == 'x", "line 1, column 11, `'x` is not understood"),
        ("data.a == 1 2", "`2` is not expected"),
        ("(" * 1_000 + "true" + ")" * 1_000, "nested too deeply"),
        ("has(data)", "line 1, column 5"),
        ("$ == 1", "`$` is not understood"),
        ("data.x.map(1, 2)", "line 1, column 12"),
    ],
)
def test_what_does_not_parse_is_refused_with_its_position(source: str, words: str) -> None:
    """A syntax error gives line and column."""
    with pytest.raises(Invalid, match="does not parse") as caught:
        compile_filter(source, pointer="/subscriptions/0/filter")
    assert words in caught.value.detail
    assert caught.value.errors[0].pointer == "/subscriptions/0/filter"


@pytest.mark.parametrize("outer", ["all", "exists", "exists_one", "existsOne", "filter"])
@pytest.mark.parametrize("inner", ["all", "exists", "exists_one", "existsOne", "map", "filter"])
def test_loops_within_loops_are_refused(outer: str, inner: str) -> None:
    """A loop inside a loop multiplies its cost, so it is refused when it is saved."""
    with pytest.raises(Invalid, match=f"`{inner}` stands inside `{outer}`"):
        compile_filter(f"data.a.{outer}(x, (x.b.{inner} ( y, y) == 1))")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("foo == 1", "no variable `foo`"),
        ("data.a == foo", "line 1, column 11"),
        ("data.x.all(x, x > 1) && x > 1", "no variable `x`"),
        ("data.x.all(data, data > 1)", "may not be called `data`"),
        ("Foo{a: 1} == 2", "no variable `Foo`"),
        (".data.a == 1", "begin with a dot"),
        ("data.x.sum() == 1", "no function `sum`"),
        ("data.s.matches(data.p)", "plain text"),
        ("data.s.matches('(a')", "not a regular expression"),
        ("data.s.matches('(a{9}){9}')", "repeat a group"),
        ("data.s.matches('a{101}')", "add up to"),
        ("data.s.matches('" + "a" * 257 + "')", "256 characters"),
        ("data.x.map(i, data.s).size() == 1", "map()"),
        ("data.x.map(i, i.s + i.s).size() == 1", "map()"),
        (" + ".join(["data.s"] * 10) + " == ''", "additions"),
        (" && ".join(["data.s.matches('a')"] * 5), "at most 4"),
        (" && ".join(["data.s.all(a, a)"] * 9), "at most 8"),
    ],
)
def test_what_could_not_work_or_would_be_slow_is_refused(source: str, words: str) -> None:
    """Unknown names and costly constructions are found when the filter is saved, not with the first event."""
    with pytest.raises(Invalid) as caught:
        compile_filter(source)
    assert words in caught.value.detail


def test_length_is_bounded() -> None:
    """A source at the limit is accepted, one above it is not."""
    at_limit = "data.a == '" + "x" * (MAX_LENGTH - 12) + "'"
    assert compile_filter(at_limit).source == at_limit
    with pytest.raises(Invalid, match=f"at most {MAX_LENGTH}"):
        compile_filter(at_limit + " ")


def test_only_the_part_that_is_named_counts() -> None:
    """A huge event costs nothing where the filter looks at one field of it."""
    huge = {"amount": 150, "rows": list(range(50 * MAX_VALUES)), "text": "x" * 1_000_000}
    assert compile_filter("data.amount > 100").matches("a", huge, None) is True


@pytest.mark.parametrize(
    ("source", "data"),
    [
        ("data.l.all(i, i > 0)", {"l": [1] * (MAX_VALUES + 1)}),
        ("data.s == 'x'", {"s": "x" * 300_000}),
        ("size(data) > 0", [[[1] * 200] * 200]),
        ("data.l.all(i, i in data.l)", {"l": list(range(2_000))}),
        ("data.l.filter(i, true).size() > 0", {"l": list(range(2_000))}),
        ("data.l.all(i, 'a'.matches('a'))", {"l": list(range(2_000))}),
        ("data.l.all(i, data.s.contains('y'))", {"l": [1] * 500, "s": "x" * 100_000}),
        ("data.l.all(i, [data.s, data.s].size() == 2)", {"l": [1] * 500, "s": "x" * 100_000}),
    ],
)
def test_cost_on_one_event_is_bounded_by_counts(source: str, data: Any) -> None:
    """An event that would make a filter slow is an error for that filter, decided before it runs."""
    with pytest.raises(FilterError, match=r"more than|too long"):
        compile_filter(source).matches("a", data, None)


@pytest.mark.parametrize(
    ("source", "data"),
    [
        ("data.l.all(i, i >= 0)", {"l": list(range(MAX_VALUES - 10))}),
        ("data.l.all(i, i in data.l)", {"l": list(range(900))}),
        ("data.l.filter(i, true).size() > 0", {"l": list(range(900))}),
        ("data.s.matches('^[xy]{100}')", {"s": "x" * 190_000}),
        (" + ".join(["data.s"] * 9) + " != ''", {"s": "x" * 190_000}),
        ("data.l.all(i, " + " && ".join(["i >= 0"] * 200) + ")", {"l": list(range(MAX_VALUES - 300))}),
    ],
)
def test_the_worst_that_is_allowed_ends_soon(source: str, data: Any) -> None:
    """What passes the bounds cannot hold up publishing: the worst cases end well within a second or two."""
    compiled = compile_filter(source)
    started = time.process_time()
    assert compiled.matches("a", data, None) is True
    assert time.process_time() - started < 3


def test_threads_may_share_a_filter() -> None:
    """One compiled filter gives each thread the answer for its own event."""
    compiled = compile_filter("data.n % 2 == 0 && metadata.k == string(data.n)")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: compiled.matches("a", {"n": n}, {"k": str(n)}), range(2_000)))
    assert answers == [n % 2 == 0 for n in range(2_000)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@given(json_values)
def test_any_json_gives_an_answer_or_a_filter_error(data: Any) -> None:
    """No published value makes a filter raise anything else."""
    for source in (
        "data.a.b > 1",
        "data.a.all(x, x > 0)",
        "data == 1",
        "size(data.b) > 1",
        "data[0] == data",
    ):
        assert _answer(source, data) in {True, False, "error"}


@given(st.text(max_size=60) | st.text("datype.[](){}'\"\\&|=<>!?:,+ \n19rb", max_size=40))
def test_any_text_compiles_or_is_invalid(source: str) -> None:
    """No text makes the compiler raise anything but Invalid."""
    try:
        outcome = compile_filter(source).source
    except Invalid as error:
        outcome = error.errors[0].detail
    assert outcome or not source


@given(
    json_values, st.sampled_from(["data.a == 1", "data.a.b == data.b", "has(data.a.c)", "data.a.size() == 1"])
)
def test_handing_over_a_part_changes_no_answer(data: Any, source: str) -> None:
    """A filter gives the same answer for the named part of an event as for the whole of it."""
    whole = f"({source}) && (data == data)"
    assert _answer(source, data) == _answer(whole, data)


def _answer(source: str, data: Any) -> bool | str:
    try:
        return compile_filter(source).matches("t", json.loads(json.dumps(data)), None)
    except FilterError:
        return "error"


def _documented() -> list[str]:
    text = (Path(__file__).parents[3] / "docs" / "reference" / "filters.md").read_text(encoding="utf-8")
    return text.split("```cel\n")[1].split("```")[0].strip().splitlines()


@pytest.mark.parametrize("source", _documented())
def test_documented_filters_work(source: str) -> None:
    """Each example of the reference compiles and says yes to an event that was made for it."""
    data = {
        "amount": 150,
        "currency": "EUR",
        "customer": {"tier": "gold"},
        "items": [
            {"sku": "A-1", "quantity": 10, "price": 6, "gift": True},
            {"sku": "B-2", "quantity": 1, "price": 90, "gift": True},
        ],
        "email": "a@example.com",
        "due_at": "2026-01-31T12:00:00Z",
    }
    if "map(" in source:
        data["items"] = [{"price": 300.5, "quantity": 2}]
    assert compile_filter(source).matches("audit.login", data, {"region": "us"}) is True
