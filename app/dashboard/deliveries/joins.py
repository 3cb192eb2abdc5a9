"""What pages join to a delivery: its endpoint, its application, and its place in the queue."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import and_

from app.core.ids import lowest_uuid_at
from app.models import Application, Delivery, Endpoint, EndpointRuntime, QueuedDelivery

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Select

SelectT = TypeVar("SelectT", bound="Select[*tuple[Any, ...]]")

# A row's id is made a moment before or after the time that it carries.
_SLACK = timedelta(minutes=1)


def with_surroundings(statement: SelectT, one: type[Delivery], *, workspace_id: UUID) -> SelectT:
    """Join to deliveries (`one`, perhaps an alias) what is shown beside them; one that is final is in no queue."""
    return (
        statement.join(Endpoint, and_(Endpoint.id == one.endpoint_id, Endpoint.workspace_id == workspace_id))
        .join(
            EndpointRuntime,
            and_(
                EndpointRuntime.endpoint_id == one.endpoint_id, EndpointRuntime.workspace_id == workspace_id
            ),
        )
        .join(
            Application,
            and_(Application.id == one.application_id, Application.workspace_id == workspace_id),
        )
        .outerjoin(
            QueuedDelivery, and_(QueuedDelivery.id == one.id, QueuedDelivery.workspace_id == workspace_id)
        )
    )


def lowest_after(delivery: Delivery) -> UUID:
    """Return an id below those of all that came of a delivery: bounds the partitions that are read."""
    return lowest_uuid_at(int((delivery.created_at - _SLACK).timestamp() * 1000))
