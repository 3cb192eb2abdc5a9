"""JSON Schema 2020-12, made safe for schemas that strangers write.

Validation is pure Python (jsonschema), with three changes. Regular expressions run in Rust's engine, whose time is
linear in the text: Python's may take minutes for one value. Work is counted and given up beyond a bound, for a
schema of a few hundred bytes may ask for 2^30 steps. And no reference leads out of the schema: nothing is fetched.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson
from jsonschema import Draft202012Validator, ValidationError, validators
from pydantic_core import SchemaValidator, core_schema
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

from app.core.errors import BellwireError, FieldError
from app.core.pointers import pointer_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]

MAX_ERRORS = 20
MAX_MESSAGE_CHARS = 300
# Keywords looked at for one value: some 0.3 s. A thousand objects of ten fields take 15,000.
MAX_STEPS = 100_000


class _TooCostly(BellwireError):
    """Checking a value against a schema takes more than MAX_STEPS."""


class CompiledSchema:
    """A schema that was checked when it was stored, ready to judge values. Safe to share between requests."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        # `$schema` would make jsonschema choose its own class instead of ours.
        own = {key: value for key, value in schema.items() if key != "$schema"}
        self._validator = _Validator(own, registry=EMPTY_REGISTRY)

    def errors(self, value: Any, *, at: str) -> list[FieldError]:
        """Return what in a JSON value breaks the schema, the first twenty at most; `at` is the value's own pointer."""
        found: list[FieldError] = []
        token = _steps_left.set([MAX_STEPS])
        try:
            for error in self._validator.iter_errors(value):
                message = error.message[:MAX_MESSAGE_CHARS]
                found.append(FieldError(at + pointer_to(error.absolute_path), f"{message}."))
                if len(found) == MAX_ERRORS:
                    break
        # Python's arithmetic with a number of 400 digits, or with infinity, is an error.
        except (_TooCostly, RecursionError, ArithmeticError):
            found.append(
                FieldError(at, "This value is too large or too deep for its schema to be checked in time.")
            )
        except Unresolvable as error:
            found.append(FieldError(at, f"The schema refers to {error.ref!r}, which it does not hold."))
        finally:
            _steps_left.reset(token)
        return found


@lru_cache(maxsize=1024)
def matcher_of(pattern: str) -> Callable[[object], bool]:
    """Return what tells whether a text holds a match of a regular expression.

    Raises:
        pydantic_core.SchemaError: it is not well formed, or cannot be run in linear time.

    """
    found = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex", strict=True))
    return found.isinstance_python


def _counted(keyword: Keyword) -> Keyword:
    def spend_and_run(
        validator: Any, value: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError] | None:
        left = _steps_left.get()
        left[0] -= 1
        if left[0] < 0:
            raise _TooCostly
        return keyword(validator, value, instance, schema)

    return spend_and_run


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not matcher_of(pattern)(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for pattern, inner in patterns.items():
        matches = matcher_of(pattern)
        for name, value in instance.items():
            if matches(name):
                yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, allowed: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    named = schema.get("properties", {})
    matchers = [matcher_of(pattern) for pattern in schema.get("patternProperties", ())]
    extras = [name for name in instance if name not in named and not any(fits(name) for fits in matchers)]
    if isinstance(allowed, dict):
        for name in extras:
            yield from validator.descend(instance[name], allowed, path=name)
    elif not allowed and extras:
        yield ValidationError(f"There may be no {', '.join(repr(name) for name in sorted(extras))} here")


def _unique_items(
    _validator: Any,
    wanted: bool,  # noqa: FBT001 - jsonschema calls it so
    instance: Any,
    _schema: Any,
) -> Iterator[ValidationError]:
    if wanted and isinstance(instance, list) and len({_identity(item) for item in instance}) < len(instance):
        yield ValidationError("The entries of this list are not all different")


def _identity(value: Any) -> bytes:
    return orjson.dumps(_with_whole_numbers(value), option=orjson.OPT_SORT_KEYS, default=str)


def _with_whole_numbers(value: Any) -> Any:
    """Write 1.0 as 1: JSON Schema takes them for the same."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value)) if abs(value) >= 1 << 53 else int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 53:
        return str(value)
    if isinstance(value, dict):
        return {key: _with_whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    return value


_steps_left: ContextVar[list[int]] = ContextVar("json_schema_steps_left")
_OWN: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_Validator = validators.extend(  # type: ignore[no-untyped-call]  # The stubs have no types for it.
    Draft202012Validator,
    {name: _counted(keyword) for name, keyword in {**Draft202012Validator.VALIDATORS, **_OWN}.items()},
)
