"""From pydantic's errors to JSON pointers and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.core.errors import FieldError
from app.core.pointers import pointer_to

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The first part of a location says where the value came from; only a header's place needs its kind named.
_SOURCES = frozenset({"body", "query", "path", "header", "cookie"})
_SENTENCES = {
    "missing": "This field is required.",
    "extra_forbidden": "There is no such field here; check its spelling.",
    "string_type": "This must be a text.",
    "int_type": "This must be a whole number.",
    "int_parsing": "This must be a whole number.",
    "float_type": "This must be a number.",
    "bool_type": "This must be true or false.",
    "bool_parsing": "This must be true or false.",
    "list_type": "This must be a list.",
    "dict_type": "This must be an object.",
    "model_type": "This must be a JSON object.",
    "model_attributes_type": "This must be a JSON object.",
}


def field_errors(errors: Sequence[Mapping[str, Any]], *, body: Any = None) -> list[FieldError]:
    """Return one entry for each of pydantic's errors, with a pointer into the body (or a parameter's name)."""
    found: dict[FieldError, None] = {}
    for error in errors:
        found[FieldError(_pointer(error, body), _sentence(error))] = None
    return list(found)


def _pointer(error: Mapping[str, Any], body: Any) -> str:
    location = list(error["loc"])
    source = location.pop(0) if location and location[0] in _SOURCES else "body"
    if source == "header":
        return pointer_to(["headers", *location])
    if source != "body":
        return pointer_to(location)
    inside: str = error.get("ctx", {}).get("pointer", "")
    return pointer_to(_existing(location, body, missing=error["type"] == "missing")) + inside


def _existing(location: list[str | int], body: Any, *, missing: bool) -> list[str | int]:
    """Leave out the names of union members and validators that pydantic puts into locations."""
    parts: list[str | int] = []
    value = body
    for position, part in enumerate(location):
        if _has(value, part):
            value = value[part]
        elif not (missing and position == len(location) - 1):
            continue
        parts.append(part)
    return parts


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value)


def _sentence(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing" and tuple(error["loc"]) == ("body",):
        return "A JSON object is required as the body."
    if kind in _SENTENCES:
        return _SENTENCES[kind]
    if kind == "value_error" and "error" in context:
        return str(context["error"])
    if kind in {"enum", "literal_error"}:
        return f"This must be one of {context['expected']}."
    message: str = error["msg"]
    message = message.replace("Input should", "This should").replace("String should", "This text should")
    return message if message.endswith(".") else message + "."
