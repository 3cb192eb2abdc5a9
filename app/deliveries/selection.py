"""Which deliveries, or attempts of them, a list is about: the filters that both lists share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from app.applications.service import require_application
from app.core import ids
from app.core.errors import NotFound
from app.core.ranges import TimeRange
from app.endpoints.queries import require_endpoint

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

StateName = Literal["pending", "sending", "succeeded", "dead", "cancelled"]
StatusClass = Literal["2xx", "3xx", "4xx", "5xx", "none"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filters as the caller gave them; None does not filter."""

    application: str | None = None
    endpoint: str | None = None
    event: str | None = None
    type: str | None = None
    state: StateName | None = None
    status_class: StatusClass | None = None
    error_class: str | None = None
    created: TimeRange = field(default_factory=TimeRange)


@dataclass(frozen=True, slots=True)
class Selection:
    """The filters with the ids that they mean."""

    wanted: Wanted
    application_id: UUID | None
    endpoint_id: UUID | None
    event_id: UUID | None


async def resolve(session: AsyncSession, caller: Caller, wanted: Wanted) -> Selection:
    """Look up what the filters name; deleted endpoints may be named, for their record stays.

    Raises:
        NotFound: there is no such application or endpoint here, or the event's id is none.

    """
    application = (
        await require_application(session, caller, wanted.application)
        if wanted.application is not None
        else None
    )
    endpoint = (
        await require_endpoint(session, caller, wanted.endpoint, deleted_too=True)
        if wanted.endpoint is not None
        else None
    )
    return Selection(
        wanted=wanted,
        application_id=application.id if application else None,
        endpoint_id=endpoint.id if endpoint else None,
        event_id=_event_id(wanted.event) if wanted.event is not None else None,
    )


def status_bounds(status_class: StatusClass) -> tuple[int, int]:
    """Return the first status of a class and the first one after it."""
    first = int(status_class[0]) * 100
    return first, first + 100


def _event_id(reference: str) -> UUID:
    event_id = ids.from_text(ids.EVENT, reference)
    if event_id is None:
        raise NotFound(f"{reference[:64]!r} is not the id of an event; those begin with evt_.")
    return event_id
