"""Which schemas the catalogue takes: valid JSON Schema 2020-12 that can be checked safely (see `json_schema`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from jsonschema import Draft202012Validator, SchemaError
from pydantic_core import SchemaError as BadPattern

from app.core.errors import FieldError, Invalid
from app.core.pointers import pointer_to
from app.event_types.json_schema import MAX_ERRORS, MAX_MESSAGE_CHARS, matcher_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Path = tuple[str | int, ...]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_SCHEMA_BYTES = 65_536

_REFERENCES = ("$ref", "$dynamicRef")
# What these hold is data or names, not schemas.
_NOT_SCHEMAS = frozenset({"const", "enum", "default", "examples", "required", "dependentRequired"})
_MAPS_OF_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})


def check_schema(schema: Mapping[str, Any], *, at: str) -> None:
    """Check that a schema can be used; `at` is its own pointer.

    Raises:
        Invalid: it is not JSON Schema 2020-12, is too large, refers to something outside itself, or holds a
            regular expression that cannot be run in linear time.

    """
    try:
        if len(orjson.dumps(schema)) > MAX_SCHEMA_BYTES:
            raise Invalid.at(at, f"A schema may have at most {MAX_SCHEMA_BYTES:,} bytes.")
        errors = _breaks_of_the_standard(schema) or list(_breaks_of_our_rules(schema))
    except (RecursionError, orjson.JSONEncodeError):
        raise Invalid.at(at, "This schema is nested too deeply.") from None
    if errors:
        found = [FieldError(at + error.pointer, error.detail) for error in errors[:MAX_ERRORS]]
        raise Invalid(f"{found[0].pointer}: {found[0].detail}", errors=found)


def _breaks_of_the_standard(schema: Mapping[str, Any]) -> list[FieldError]:
    if str(schema.get("$schema", DIALECT)).rstrip("#") != DIALECT:
        return [FieldError("/$schema", f"Only {DIALECT} is known here. Leave $schema out, or give this one.")]
    try:
        # Formats are off: Python's idea of a regular expression is not the one that counts here.
        Draft202012Validator.check_schema(schema, format_checker=None)  # type: ignore[arg-type]
    except SchemaError as error:
        detail = f"{error.message[:MAX_MESSAGE_CHARS]}."
        return [FieldError(pointer_to(error.absolute_path), detail)]
    return []


def _breaks_of_our_rules(schema: Mapping[str, Any]) -> Iterator[FieldError]:
    for inner, path in _subschemas(schema, ()):
        if path and "$schema" in inner:
            yield FieldError(pointer_to((*path, "$schema")), "$schema stands at the top of a schema only.")
        for key in _REFERENCES:
            if key in inner and not str(inner[key]).startswith("#"):
                yield FieldError(
                    pointer_to((*path, key)),
                    "A reference must stay inside the schema and begin with #. Copy what it means into $defs.",
                )
        if "patternProperties" in inner and "unevaluatedProperties" in inner:
            yield FieldError(
                pointer_to((*path, "unevaluatedProperties")),
                "unevaluatedProperties beside patternProperties is not supported; use additionalProperties.",
            )
        yield from _bad_patterns(inner, path)


def _subschemas(schema: Any, path: Path) -> Iterator[tuple[Mapping[str, Any], Path]]:
    """Yield a schema and all those inside it, each with its place."""
    if not isinstance(schema, dict):
        return
    yield schema, path
    for key, value in schema.items():
        if key in _NOT_SCHEMAS:
            continue
        if isinstance(value, list):
            inside: dict[str | int, Any] = dict(enumerate(value))
        elif isinstance(value, dict) and key in _MAPS_OF_SCHEMAS:
            inside = value
        else:
            yield from _subschemas(value, (*path, key))
            continue
        for name, inner in inside.items():
            yield from _subschemas(inner, (*path, key, name))


def _bad_patterns(schema: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    places: list[tuple[str, Path]] = [
        (pattern, ("patternProperties", pattern)) for pattern in schema.get("patternProperties", ())
    ]
    if "pattern" in schema:
        places.append((schema["pattern"], ("pattern",)))
    for pattern, place in places:
        try:
            matcher_of(pattern)
        except BadPattern:
            yield FieldError(
                pointer_to((*path, *place)),
                "This regular expression is not well formed, or cannot be run in linear time: look-around and "
                "back-references are not supported.",
            )
