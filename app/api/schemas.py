"""What the schemas of all features are made of."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from app.core.clock import rfc3339
from app.core.pointers import pointer_to

MAX_METADATA_PAIRS = 50
MAX_METADATA_KEY_CHARS = 128
MAX_METADATA_VALUE_CHARS = 1_024
MAX_NAME_CHARS = 256

_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)\d*(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


class Model(BaseModel):
    """Base of request bodies: unknown fields are refused, and nothing is converted from another type.

    Texts may not hold NUL, which Postgres cannot store; a field typed `Any` is kept as it is. Write choices as
    `Literal`, not as enums.
    """

    model_config = ConfigDict(extra="forbid", strict=True, validate_default=False)

    @model_validator(mode="after")
    def _refuse_nul(self) -> Any:
        for name in self.model_fields_set:
            field = type(self).model_fields[name]
            if field.annotation is not Any:
                _refuse_nul(getattr(self, name), [field.alias or name])
        return self


class Patch(Model):
    """Base of PATCH bodies: what is left out stays as it is. A default is never used; it only lets a field be left out."""

    def changes(self) -> dict[str, Any]:
        """Return what was given, by field name."""
        return {name: getattr(self, name) for name in self.model_fields_set}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> dict[str, Any]:
        """Describe the fields without their defaults."""
        described = handler.resolve_ref_schema(handler(schema))
        for field in described.get("properties", {}).values():
            field.pop("default", None)
        return described


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_timestamp(value: object) -> object:
    """Return the time that an RFC 3339 text means; a time without a zone is refused."""
    if isinstance(value, datetime):
        return value
    found = _RFC_3339.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise PydanticCustomError(
            "timestamp", "This must be a time like 2026-01-31T12:00:00Z, with its zone (RFC 3339)."
        )
    try:
        # Digits below the microsecond are dropped: neither Python nor Postgres keeps them.
        return datetime.fromisoformat((found[1] + found[2]).upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PydanticCustomError("timestamp", "There is no such date or time.") from None


def _check_metadata(value: dict[str, str]) -> dict[str, str]:
    if len(value) > MAX_METADATA_PAIRS:
        raise ValueError(f"There may be at most {MAX_METADATA_PAIRS} pairs.")
    for key, text in value.items():
        if not 1 <= len(key) <= MAX_METADATA_KEY_CHARS:
            raise ValueError(f"A name must have 1 to {MAX_METADATA_KEY_CHARS} characters.")
        if len(text) > MAX_METADATA_VALUE_CHARS:
            raise ValueError(f"A value may have at most {MAX_METADATA_VALUE_CHARS} characters.")
    return value


Timestamp = Annotated[
    datetime,
    BeforeValidator(parse_timestamp),
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00.123456Z"]}),
]
"""A time: RFC 3339 in and out, UTC with `Z` in answers."""

Metadata = Annotated[dict[str, str], AfterValidator(_check_metadata)]
"""Pairs of texts that Bellwire keeps and gives back, and does not look into."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS)]
"""What people call a thing."""

Uid = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
"""The caller's own id of a thing."""


class Problem(Answer):
    """RFC 9457: what went wrong, why, and what to do next."""

    type: str = Field(examples=["/problems/invalid"])
    title: str = Field(examples=["The input breaks a rule"])
    status: int = Field(examples=[422])
    detail: str
    instance: str = Field(description="The path that was asked for.", examples=["/v1/endpoints"])
    request_id: str = Field(description="The answer's `X-Request-Id`; the server's log has it too.")
    errors: list[ProblemField] | None = Field(default=None, description="Which values, for 422.")


class ProblemField(Answer):
    """One value that is not allowed."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the body.", examples=["/url"])
    detail: str


def _refuse_nul(value: Any, parts: list[str | int]) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise PydanticCustomError(
                "nul", "Texts cannot hold the NUL character (\\u0000).", {"pointer": pointer_to(parts)}
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_nul(key, parts)
            _refuse_nul(item, [*parts, key])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_nul(item, [*parts, index])


Problem.model_rebuild()
