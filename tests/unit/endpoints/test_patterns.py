"""Event-type patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import Invalid
from app.endpoints.patterns import (
    MAX_PATTERNS,
    compile_patterns,
    event_type_fault,
    pattern_fault,
    require_patterns,
)

segments = st.text("abZ09_-", min_size=1, max_size=4)
names = st.lists(segments, min_size=1, max_size=5).map(".".join)
patterns = st.one_of(st.just("*"), names, names.map(lambda name: name + ".*"))


def by_definition(pattern: str, name: str) -> bool:
    """The rule in words, segment by segment."""
    wanted, given_ = pattern.split("."), name.split(".")
    if wanted[-1] != "*":
        return wanted == given_
    return len(given_) >= len(wanted) and given_[: len(wanted) - 1] == wanted[:-1]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "order", True),
        ("*", "order.placed.v2", True),
        ("order.*", "order.a", True),
        ("order.*", "order.a.b", True),
        ("order.*", "order", False),
        ("order.*", "orders.a", False),
        ("order.a.*", "order.b.c", False),
        ("order.a.*", "order.a", False),
        ("order.a.*", "order.a.c.d", True),
        ("order.placed", "order.placed", True),
        ("order.placed", "order.placed.v2", False),
        ("order.placed", "Order.placed", False),
    ],
)
def test_star_stands_for_whole_segments_at_the_end(pattern: str, name: str, *, expected: bool) -> None:
    """A `*` matches one or more whole segments, and a name without it only itself."""
    assert compile_patterns([pattern]).matches(name) is expected


@given(st.lists(patterns, min_size=1, max_size=6), names)
def test_compiled_set_agrees_with_the_definition(given_patterns: list[str], name: str) -> None:
    """A set of patterns matches exactly what one of them matches by definition."""
    expected = any(by_definition(pattern, name) for pattern in given_patterns)
    assert compile_patterns(given_patterns).matches(name) is expected


@given(patterns)
def test_legal_patterns_pass(pattern: str) -> None:
    """What is made of legal segments, with a `*` at the end or alone, has no fault."""
    assert pattern_fault(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "segments"),
        (".", "segments"),
        ("order.", "segments"),
        (".order", "segments"),
        ("order..placed", "segments"),
        ("ord er", "segments"),
        ("order.é", "segments"),
        ("order.placed\n", "segments"),
        ("*.placed", "alone or be the last"),
        ("order.*.v2", "alone or be the last"),
        ("order*", "alone or be the last"),
        ("order.**", "alone or be the last"),
        ("*.*", "alone or be the last"),
        ("a" * 129, "129 characters"),
    ],
)
def test_broken_patterns_are_explained(pattern: str, words: str) -> None:
    """Each kind of broken pattern gets a sentence that says what is wrong."""
    fault = pattern_fault(pattern)
    assert fault is not None
    assert words in fault


def test_event_type_may_not_hold_a_star() -> None:
    """A name in the catalogue or of an event is not a pattern."""
    assert event_type_fault("order.placed") is None
    assert event_type_fault("order.*") is not None


def test_repetitions_are_dropped_in_order() -> None:
    """The list is kept in its order, each pattern once."""
    assert require_patterns(["b.*", "a", "b.*", "*"]) == ["b.*", "a", "*"]


def test_each_broken_pattern_is_pointed_at() -> None:
    """The error points at the positions in the list."""
    with pytest.raises(Invalid) as caught:
        require_patterns(["ok", "*.x", "also.ok", ""])
    assert [error.pointer for error in caught.value.errors] == ["/event_types/1", "/event_types/3"]


@pytest.mark.parametrize("given_patterns", [[], [f"t{n}" for n in range(MAX_PATTERNS + 1)]])
def test_empty_and_overlong_lists_are_refused(given_patterns: list[str]) -> None:
    """A subscription names at least one pattern and at most the limit."""
    with pytest.raises(Invalid) as caught:
        require_patterns(given_patterns)
    assert caught.value.errors[0].pointer == "/event_types"
