"""What the endpoints' pages reckon by themselves: lengths of time, matches, schedules, examples, snippets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.core.errors import Invalid
from app.dashboard.endpoints.secret.snippets import SNIPPETS
from app.dashboard.endpoints.settings.audience import MOST_BOXES, audience_of
from app.dashboard.endpoints.settings.lengths import read_lengths, write_lengths
from app.dashboard.endpoints.settings.queries import Published
from app.dashboard.endpoints.settings.schedule import draw_schedule
from app.dashboard.endpoints.trial.example import example_of
from app.event_types.json_schema import CompiledSchema

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("text", ["later", "5x", "-5", "5s, x", "1.2.3", "5s5m", "١"])
def test_what_is_no_length_is_refused(text):
    """With the part that is none."""
    with pytest.raises(Invalid, match="is no length of time"):
        read_lengths(text, pointer="/retry_schedule")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", []), ("90", [90]), ("5s, 30 s;2m\n1H 1d", [5, 30, 120, 3_600, 86_400]), ("1.5h", [5_400])],
)
def test_lengths_are_read_as_people_write_them(text, seconds):
    """Plain numbers are seconds."""
    assert read_lengths(text, pointer="/x") == seconds


def test_what_is_written_is_read_back():
    """The form of a stored schedule changes nothing."""
    delays = [0, 5, 59, 60, 90, 3_600, 5_400, 86_400, 100_000, 604_800]
    assert read_lengths(write_lengths(delays), pointer="/x") == delays


def test_matches_are_counted_over_the_catalogue_and_what_was_published():
    """Each type once; what is no pattern matches nothing, and stays where it was typed."""
    published = Published(
        catalogue=["order.placed", "order.shipped", "user.created"],
        seen={"order.placed": 7, "stray": 2},
        capped=False,
    )

    found = audience_of(["order.*", "a..b"], published)

    assert (found.matched_types, found.types, found.matched_events, found.events) == (2, 4, 7, 9)
    assert found.typed == ["a..b"]
    (group,) = [branch.group for branch in found.branches if branch.group]
    assert (group.pattern, group.picked, group.count) == ("order.*", True, 7)
    assert [box.declared for branch in found.branches for box in branch.boxes if box.pattern == "stray"] == [
        False
    ]


def test_a_large_catalogue_has_no_more_boxes_than_a_form_takes():
    """The rest is typed, and the page says how many there are."""
    found = audience_of(["x.*"], Published([f"g{n % 9}.t{n}" for n in range(500)], {}, capped=False))

    boxes = sum(len(branch.boxes) + bool(branch.group) for branch in found.branches)
    assert boxes <= MOST_BOXES
    assert found.unboxed == 500 - sum(len(branch.boxes) for branch in found.branches)


def test_attempts_after_the_deadline_are_said_to_be_too_late():
    """They stand in the picture, marked."""
    found = draw_schedule([60, 600, 86_400], deadline_seconds=3_600)

    assert [each.after for each in found.attempts] == [0, 60, 660, 87_060]
    assert [each.late for each in found.attempts] == [False, False, False, True]
    assert found.says.startswith("3 attempts within 11 min; 1 more would come after the deadline of 1 h.")
    assert found.axis.count("<circle") == 4


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "minimum": 3}}},
        {"type": "string", "format": "date-time"},
        {"type": ["number", "null"], "exclusiveMinimum": 4},
        {"enum": ["EUR", "USD"]},
        {"type": "array", "items": {"type": "string", "minLength": 9}},
        {
            "allOf": [{"$ref": "#/$defs/x"}],
            "$defs": {"x": {"type": "object", "properties": {"b": {"const": 1}}}},
        },
        {"$ref": "#/$defs/x", "$defs": {"x": {"type": "boolean"}}},
        {"oneOf": [{"type": "object", "properties": {"n": {"type": "integer"}}}, {"type": "string"}]},
        {"properties": {"n": {"default": 7}}},
    ],
)
def test_an_example_is_what_its_schema_allows(schema):
    """And JSON."""
    found = example_of(schema)

    assert CompiledSchema(schema).errors(json.loads(json.dumps(found)), at="/data") == []


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/no"},
        {"$ref": "https://x/y"},
        {"properties": {"a": {"$ref": "#"}}},
        True,
    ],
)
def test_an_example_of_a_schema_that_leads_nowhere_ends(schema):
    """A schema may refer to itself for ever."""
    json.dumps(example_of(schema))


def test_the_snippets_are_those_of_the_docs():
    """Which a test of the docs runs."""
    page = (DOCS / "howto" / "verify-webhooks.md").read_text()
    for name, code in SNIPPETS:
        assert f"```python\n{code}```" in page, name
