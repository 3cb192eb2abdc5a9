"""What the catalogue asks of an event's data: a JSON Schema, and whether breaking it is refused."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

from app.core.errors import FieldError

MAX_REPORTED = 20


class TypeRule:
    """The schema of one event type, ready to check data against."""

    def __init__(self, *, validation: str, schema: dict[str, Any]) -> None:
        self.validation = validation
        self._validator = Draft202012Validator(schema)

    def violations(self, data: object) -> list[FieldError]:
        """Return what is wrong, with pointers into `/data`; at most 20."""
        found: list[FieldError] = []
        for error in self._validator.iter_errors(data):
            pointer = "/data" + "".join(f"/{_escape(part)}" for part in error.absolute_path)
            found.append(FieldError(pointer, _short(error.message)))
            if len(found) == MAX_REPORTED:
                break
        return found


def _escape(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _short(message: str) -> str:
    return message if len(message) <= 300 else message[:297] + "..."  # noqa: PLR2004 - a sentence's length
