"""JSON Schema 2020-12, made safe for schemas that strangers write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from app.core.errors import Invalid
from app.event_types.json_schema import MAX_ERRORS, CompiledSchema
from app.event_types.schema_rules import check_schema

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False},
    {"patternProperties": {"^[a-c]": {"type": "string"}}, "additionalProperties": {"type": "number"}},
    {"type": "array", "uniqueItems": True, "items": {"type": ["integer", "string"], "maxLength": 2}},
    {"anyOf": [{"pattern": "^a+$"}, {"minimum": 0}, {"type": "null"}]},
    {"$defs": {"n": {"type": ["null", "array"], "items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"},
    {"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"not": {"const": 1}}},
    {"enum": [1, "a", None, [1, 2], {"a": 1}]},
]


@pytest.mark.parametrize("schema", SCHEMAS)
@given(value=JSON)
def test_judges_as_the_reference_does(schema, value):
    """Our own keywords change how work is done, not what is valid."""
    assert (CompiledSchema(schema).errors(value, at="") == []) == Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    ("schema", "value", "pointer"),
    [
        ({"properties": {"a": {"type": "integer"}}}, {"a": "x"}, "/data/a"),
        ({"required": ["a"]}, {}, "/data"),
        ({"items": {"properties": {"x/y": {"maximum": 1}}}}, [{"x/y": 2}], "/data/0/x~1y"),
        ({"additionalProperties": False}, {"b": 1}, "/data"),
        ({"pattern": "^a"}, "b", "/data"),
        ({"uniqueItems": True}, [1, 1.0], "/data"),
    ],
)
def test_faults_have_pointers_into_the_data(schema, value, pointer):
    """A publisher sees where its event breaks the schema."""
    assert [error.pointer for error in CompiledSchema(schema).errors(value, at="/data")] == [pointer]


def test_at_most_twenty_faults_are_listed():
    """A thousand bad entries do not make a thousand lines."""
    assert len(CompiledSchema({"items": {"type": "string"}}).errors([1] * 1000, at="")) == MAX_ERRORS


def test_schema_that_asks_for_endless_work_is_given_up():
    """2^40 steps in 2 kilobytes: the check stops and says so."""
    bomb = {"$defs": {"l0": {"type": "integer"}}, "$ref": "#/$defs/l40"}
    for level in range(1, 41):
        inner = {"$ref": f"#/$defs/l{level - 1}"}
        bomb["$defs"][f"l{level}"] = {"allOf": [inner, inner]}
    check_schema(bomb, at="/schema")
    (error,) = CompiledSchema(bomb).errors(1, at="/data")
    assert "in time" in error.detail


def test_schema_that_refers_to_itself_for_ever_is_given_up():
    """Recursion without an end is a fault of the schema, not a crash."""
    (error,) = CompiledSchema({"$ref": "#"}).errors(1, at="/data")
    assert "in time" in error.detail


def test_expression_that_hangs_python_is_linear_here():
    """(a+)+$ on 50,000 letters would outlive the universe in Python's engine."""
    schema = {"pattern": "^(a+)+$"}
    check_schema(schema, at="/schema")
    assert len(CompiledSchema(schema).errors("a" * 50_000 + "!", at="")) == 1


def test_reference_to_nowhere_is_a_fault_of_the_schema():
    """A missing definition is named."""
    (error,) = CompiledSchema({"$ref": "#/$defs/x"}).errors(1, at="/data")
    assert "/$defs/x" in error.detail


@pytest.mark.parametrize(
    ("schema", "pointer", "words"),
    [
        ({"type": "nonsense"}, "/schema/type", "nonsense"),
        ({"properties": {"a": {"minimum": "x"}}}, "/schema/properties/a/minimum", "number"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/schema/$schema", "2020-12"),
        ({"$schema": 5}, "/schema/$schema", "2020-12"),
        ({"$ref": "https://example.com/schema"}, "/schema/$ref", "inside"),
        ({"allOf": [{"$ref": "file:///etc/passwd"}]}, "/schema/allOf/0/$ref", "inside"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, "/schema/properties/a/pattern", "linear"),
        ({"patternProperties": {"(": {}}}, "/schema/patternProperties/(", "well formed"),
        ({"$defs": {"a": {"$schema": "x"}}}, "/schema/$defs/a/$schema", "top"),
        ({"description": "x" * 70_000}, "/schema", "65,536"),
    ],
)
def test_schemas_that_cannot_be_used_are_refused_at_save(schema, pointer, words):
    """The person who writes a schema learns at once what is wrong with it."""
    with pytest.raises(Invalid) as caught:
        check_schema(schema, at="/schema")
    assert caught.value.errors[0].pointer == pointer
    assert words in caught.value.errors[0].detail


def test_nesting_without_end_is_refused_at_save():
    """A schema too deep to be walked is an answer, not a crash."""
    schema = {}
    for _ in range(900):
        schema = {"not": schema}
    with pytest.raises(Invalid, match="deeply"):
        check_schema(schema, at="/schema")


def test_data_that_looks_like_schemas_is_left_alone():
    """What stands in const, enum and examples is data."""
    schema = {"const": {"$ref": "https://x"}, "enum": [{"pattern": "("}], "examples": [{"$schema": "x"}]}
    check_schema(schema, at="/schema")
    del schema["enum"]
    assert CompiledSchema(schema).errors({"$ref": "https://x"}, at="") == []
    assert len(CompiledSchema(schema).errors({"$ref": "https://y"}, at="")) == 1


def test_own_dialect_may_be_named():
    """`$schema` of 2020-12 is fine, and does not switch our own keywords off."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": "^(a+)+$"}
    check_schema(schema, at="/schema")
    assert CompiledSchema(schema).errors("aaa", at="") == []
    assert len(CompiledSchema(schema).errors("a" * 50_000 + "!", at="")) == 1
