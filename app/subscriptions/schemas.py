"""Subscriptions as the API takes and shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field

from app.api.schemas import Answer, Model, Patch, Timestamp
from app.core import ids

if TYPE_CHECKING:
    from app.models import Subscription


class SubscriptionCreate(Model):
    """Which events go to the endpoint."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"event_types": ["order.*", "user.created"], "filter": "data.amount > 100"}]
        }
    )

    event_types: list[str] = Field(description="Patterns such as `order.*`, or `*` for all.")
    filter: str | None = Field(default=None, description="CEL over `type`, `data` and `metadata`.")


class SubscriptionUpdate(Patch):
    """What to change; fields that are left out stay as they are."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"filter": None}]})

    event_types: list[str] = Field(default_factory=list)
    filter: str | None = None


class SubscriptionAnswer(Answer):
    """Which events go to an endpoint."""

    id: str
    endpoint: str
    event_types: list[str]
    filter: str | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, row: Subscription) -> SubscriptionAnswer:
        """Show a row."""
        return cls(
            id=ids.to_text(ids.SUBSCRIPTION, row.id),
            endpoint=ids.to_text(ids.ENDPOINT, row.endpoint_id),
            event_types=row.event_types,
            filter=row.filter,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
