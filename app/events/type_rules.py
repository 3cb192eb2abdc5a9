"""What the catalogue asks of an event's data: a JSON Schema, and whether breaking it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.event_types.json_schema import CompiledSchema

if TYPE_CHECKING:
    from app.core.errors import FieldError


class TypeRule:
    """The schema of one event type, ready to check data against. `validation` is `warn` or `reject`."""

    def __init__(self, *, validation: str, schema: dict[str, Any]) -> None:
        self.validation = validation
        self._schema = CompiledSchema(schema)

    def violations(self, data: object) -> list[FieldError]:
        """Return what is wrong, with pointers into `/data`."""
        return self._schema.errors(data, at="/data")
