"""Applications as the API takes and shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field, JsonValue

from app.api.schemas import Answer, Metadata, Model, Name, Patch, Timestamp, Uid
from app.core import ids

if TYPE_CHECKING:
    from app.models import Application

_EXAMPLE: dict[str, JsonValue] = {
    "uid": "customer-42",
    "name": "Customer 42 Ltd.",
    "metadata": {"plan": "pro"},
}


class ApplicationCreate(Model):
    """A new application: one party that receives webhooks."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    uid: Uid | None = Field(default=None, description="Your own id of it; unique in the workspace.")
    name: Name
    metadata: Metadata = Field(default_factory=dict, description="Texts of yours that are kept with it.")


class ApplicationUpdate(Patch):
    """What to change; fields that are left out stay as they are."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Customer 42 plc"}]})

    uid: Uid | None = None
    name: Name = ""
    metadata: Metadata = Field(default_factory=dict, description="Replaces all pairs.")


class ApplicationAnswer(Answer):
    """One consumer of the workspace: the party that receives webhooks."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "app_01kb2m9w4e8f3tq6v7xz1y5n0r",
                    **_EXAMPLE,
                    "created_at": "2026-01-31T12:00:00.123456Z",
                    "updated_at": "2026-01-31T12:00:00.123456Z",
                }
            ]
        }
    )

    id: str
    uid: str | None
    name: str
    metadata: dict[str, str]
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, row: Application) -> ApplicationAnswer:
        """Show a row."""
        return cls(
            id=ids.to_text(ids.APPLICATION, row.id),
            uid=row.uid,
            name=row.name,
            metadata=row.custom,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
