"""Event types as the API takes and shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, StringConstraints

from app.api.schemas import Answer, Model, Patch, Timestamp

if TYPE_CHECKING:
    from app.models import EventType

EventTypeName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=128)
]
Description = Annotated[str, StringConstraints(max_length=4_096)]
Validation = Literal["off", "warn", "reject"]

_EXAMPLE: dict[str, JsonValue] = {
    "name": "order.placed",
    "description": "A customer has placed an order.",
    "schema": {
        "type": "object",
        "required": ["order_id", "amount"],
        "properties": {"order_id": {"type": "string"}, "amount": {"type": "number", "minimum": 0}},
    },
    "example": {"order_id": "ord_42", "amount": 99.5},
    "validation": "reject",
}
_SCHEMA = "JSON Schema 2020-12 of the event's `data`. References stay inside it (`#/$defs/...`)."
_EXAMPLE_NOTE = "An example of `data`, kept byte for byte. It must fit the schema."
_VALIDATION = (
    "What happens to an event that breaks the schema: `off` nothing, `warn` it is counted, `reject` 422."
)


class EventTypeCreate(Model):
    """A new entry of the catalogue."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: EventTypeName
    description: Description | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema", description=_SCHEMA)
    example: Any = Field(default=None, description=_EXAMPLE_NOTE)
    validation: Validation = Field(default="off", description=_VALIDATION)


class EventTypeUpdate(Patch):
    """What to change; fields that are left out stay as they are, null removes."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"validation": "warn"}]})

    description: Description | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema", description=_SCHEMA)
    example: Any = Field(default=None, description=_EXAMPLE_NOTE)
    validation: Validation = Field(default="off", description=_VALIDATION)


class EventTypeAnswer(Answer):
    """A name in the catalogue, with an optional schema and example."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_EXAMPLE,
                    "created_at": "2026-01-31T12:00:00.123456Z",
                    "updated_at": "2026-01-31T12:00:00.123456Z",
                }
            ]
        }
    )

    name: str
    description: str | None
    json_schema: dict[str, Any] | None = Field(alias="schema")
    example: Any
    validation: Validation
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, row: EventType) -> EventTypeAnswer:
        """Show a row without its example, which is bytes: see `app.event_types.answers`."""
        return cls(
            name=row.name,
            description=row.description,
            schema=row.json_schema,
            example=None,
            validation=row.validation,  # type: ignore[arg-type]  # The table's constraint holds it.
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
