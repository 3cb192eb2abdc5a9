"""From pydantic's errors to pointers and sentences, and the types that all schemas use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from app.api.schemas import Metadata, Model, Patch, Timestamp, parse_timestamp
from app.api.validation import field_errors
from app.core.clock import rfc3339


class Inner(Model):
    size: int
    kind: Literal["a", "b"] = "a"


class Sample(Model):
    name: str
    inner: Inner | None = None
    inners: list[Inner] = Field(default_factory=list)
    either: int | list[int] | None = None
    meta: Metadata = Field(default_factory=dict)
    opaque: Any = None
    renamed: str = Field(default="", alias="other~name")


def pointers_of(body):
    """Validate a body as FastAPI does and return (pointer, sentence) pairs."""
    with pytest.raises(ValidationError) as caught:
        Sample.model_validate(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    return {error.pointer: error.detail for error in field_errors(errors, body=body)}


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({}, "/name", "required"),
        ({"name": "x", "nmae": 1}, "/nmae", "no such field"),
        ({"name": 5}, "/name", "a text"),
        ({"name": "x", "inner": {"size": "5"}}, "/inner/size", "whole number"),
        ({"name": "x", "inner": {}}, "/inner/size", "required"),
        ({"name": "x", "inner": 5}, "/inner", "JSON object"),
        ({"name": "x", "inners": [{"size": 1}, {"size": True}]}, "/inners/1/size", "whole number"),
        ({"name": "x", "inners": [{"size": 1, "kind": "c"}]}, "/inners/0/kind", "one of 'a' or 'b'"),
        ({"name": "x", "inner": {"size": 1, "a/b": 2}}, "/inner/a~1b", "no such field"),
        ({"name": "a\x00b"}, "/name", "NUL"),
        ({"name": "x", "meta": {"k": "a\x00"}}, "/meta/k", "NUL"),
        ({"name": "x", "other~name": "\x00"}, "/other~0name", "NUL"),
        ({"name": "x", "meta": {"": "v"}}, "/meta", "1 to 128"),
    ],
)
def test_each_fault_is_named_with_its_place(body, pointer, words):
    """A client can put the sentence beside the field that it concerns."""
    found = pointers_of(body)
    assert list(found) == [pointer]
    assert words in found[pointer]


def test_members_of_unions_are_not_part_of_the_pointer():
    """Pydantic names which alternative failed; a JSON pointer does not."""
    assert set(pointers_of({"name": "x", "either": ["y"]})) == {"/either", "/either/0"}


def test_opaque_values_are_kept_as_they_are():
    """A field typed Any is data: nothing in it is refused."""
    assert Sample.model_validate({"name": "x", "opaque": {"a": "\x00"}}).opaque == {"a": "\x00"}


def test_patch_tells_what_was_given():
    """Left out and set to null are different things."""

    class Change(Patch):
        name: str | None = None
        size: int = 0

    assert Change.model_validate({"name": None}).changes() == {"name": None}
    assert "default" not in Change.model_json_schema()["properties"]["size"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00.5z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31T13:00:00.123456789+01:00", datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_reads_rfc_3339(text, expected):
    """Any zone is read and turned into UTC; digits below the microsecond are dropped."""
    assert parse_timestamp(text) == expected


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31T12:00:00",
        "2026-01-31",
        "2026-02-30T12:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "2026-01-31T12:00:00+25:00",
        "٢٠٢٦-01-31T12:00:00Z",
        1_700_000_000,
        None,
        True,
    ],
)
def test_refuses_what_is_no_moment(value):
    """No zone, no such day, a number: each is refused instead of guessed."""
    with pytest.raises(ValidationError):
        TypeAdapter(Timestamp).validate_python(value)


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.timezones()))  # noqa: DTZ001
def test_timestamps_survive_the_way_out_and_in(value):
    """What an answer shows, a request may send."""
    assert parse_timestamp(rfc3339(value)) == value.astimezone(UTC)
