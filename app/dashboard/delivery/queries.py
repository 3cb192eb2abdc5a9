"""SQL of the delivery page: three statements, each of the caller's workspace, each with a bound on what it reads."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import and_, case, func, literal, or_, select, tuple_
from sqlalchemy.orm import aliased

from app.core import ids
from app.core.errors import NotFound
from app.dashboard.deliveries.joins import lowest_after, with_surroundings
from app.dashboard.deliveries.rows import ANOTHER
from app.deliveries.queries import lane_of, place_of
from app.deliveries.waiting import READY, Lane, Place
from app.models import (
    Application,
    Attempt,
    Delivery,
    Endpoint,
    EndpointRuntime,
    EndpointSecret,
    Event,
    QueuedDelivery,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import ScalarSelect
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

# The timeline has so many attempts; earlier ones are on pages of their own.
ATTEMPTS_SHOWN = 100
# How many wait in front is counted up to here.
MOST_AHEAD = 1_000
MOST_SECRETS = 20
# Read of the attempts that are shown whole, not of all in the timeline.
_HEAVY = frozenset({"request_headers", "response_headers", "response_body"})


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A signing secret of the endpoint, still sealed; the current one has no `expires_at`."""

    id: UUID
    sealed: bytes
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class FoundDelivery:
    """A delivery with all that belongs to it. `queued` is None when it is final, `event` when that is gone."""

    delivery: Delivery
    endpoint: Endpoint
    application_name: str
    event: Event | None
    queued: QueuedDelivery | None
    place: Place | None
    lane: Lane
    # How many of the lane go before it (up to MOST_AHEAD + 1), and since when the first of them is due.
    ahead: int
    oldest_due_at: datetime | None
    secrets: Sequence[SealedSecret]


async def require_delivery(session: AsyncSession, caller: Caller, reference: str) -> FoundDelivery:
    """Return the delivery that an address names.

    Raises:
        NotFound: there is none, or it is another workspace's.

    """
    delivery_id = ids.from_text(ids.DELIVERY, reference)
    found = await _find(session, caller, delivery_id) if delivery_id is not None else None
    if found is None:
        raise NotFound(
            f"There is no delivery {reference[:64]!r} here. It may be older than your retention, or belong to another "
            "workspace: look for it in the list of deliveries."
        )
    return found


async def list_attempts(
    session: AsyncSession, found: FoundDelivery, *, shown: Collection[int], until: int | None = None
) -> list[Attempt]:
    """Return up to ATTEMPTS_SHOWN attempts before number `until` (included), oldest first, and those that are shown.

    Only the shown ones, and the last of all, have headers and the response's body. The rows are detached copies.
    """
    delivery = found.delivery
    newest = delivery.attempt_count if until is None else until
    in_timeline = Attempt.number > newest - ATTEMPTS_SHOWN
    if until is not None:
        in_timeline = and_(in_timeline, Attempt.number <= until)
    last = (
        select(func.max(Attempt.number))
        .where(
            Attempt.workspace_id == delivery.workspace_id,
            Attempt.delivery_id == delivery.id,
            Attempt.id >= lowest_after(delivery),
        )
        .scalar_subquery()
    )
    whole = or_(Attempt.number.in_(shown), Attempt.number == last)
    columns = [
        case((whole, getattr(Attempt, column.key))).label(column.key)
        if column.key in _HEAVY
        else getattr(Attempt, column.key)
        for column in Attempt.__table__.columns
    ]
    rows = await session.execute(
        select(*columns)
        .where(
            Attempt.workspace_id == delivery.workspace_id,
            Attempt.delivery_id == delivery.id,
            # The first attempt comes after the delivery: partitions of earlier days are left alone.
            Attempt.id >= lowest_after(delivery),
            or_(in_timeline, whole),
        )
        .order_by(Attempt.number, Attempt.stale, Attempt.id)
    )
    return [Attempt(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


async def _find(session: AsyncSession, caller: Caller, delivery_id: UUID) -> FoundDelivery | None:
    chosen = select(
        Delivery,
        Endpoint,
        EndpointRuntime,
        Application.name,
        Event,
        QueuedDelivery,
        _ahead(),
        _oldest_due(),
        _secrets(),
    )
    query = (
        with_surroundings(chosen, Delivery, workspace_id=caller.workspace_id)
        .outerjoin(Event, and_(Event.id == Delivery.event_id, Event.workspace_id == caller.workspace_id))
        .where(Delivery.workspace_id == caller.workspace_id, Delivery.id == delivery_id)
    )
    row = (await session.execute(query)).one_or_none()
    if row is None:
        return None
    delivery, endpoint, runtime, application_name, event, queued, ahead, oldest_due_at, secrets = row
    # Of a FIFO lane one goes at a time, in order.
    behind = runtime.fifo and (bool(ahead) or runtime.in_flight > 0)
    return FoundDelivery(
        delivery=delivery,
        endpoint=endpoint,
        application_name=application_name,
        event=event,
        queued=queued,
        place=place_of(queued, runtime, head=ANOTHER if behind else None) if queued else None,
        lane=lane_of(endpoint, runtime),
        ahead=ahead or 0,
        oldest_due_at=oldest_due_at,
        secrets=[_secret(row) for row in secrets or ()],
    )


def _ahead() -> ScalarSelect[int]:
    """Return how many ready rows of the lane stand before the delivery's own."""
    other = aliased(QueuedDelivery)
    before = (
        select(literal(1))
        .where(
            other.workspace_id == QueuedDelivery.workspace_id,
            other.application_id == QueuedDelivery.application_id,
            other.endpoint_id == QueuedDelivery.endpoint_id,
            other.state == READY,
            tuple_(other.rank, other.seq) < tuple_(QueuedDelivery.rank, QueuedDelivery.seq),
        )
        .limit(MOST_AHEAD + 1)
        .correlate(QueuedDelivery)
        .subquery()
    )
    return select(func.count()).select_from(before).scalar_subquery()


def _oldest_due() -> ScalarSelect[datetime]:
    """Return since when the first of the lane is due."""
    first = aliased(QueuedDelivery)
    return (
        select(first.due_at)
        .where(
            first.workspace_id == QueuedDelivery.workspace_id,
            first.application_id == QueuedDelivery.application_id,
            first.endpoint_id == QueuedDelivery.endpoint_id,
            first.state == READY,
        )
        .order_by(first.rank, first.seq)
        .limit(1)
        .correlate(QueuedDelivery)
        .scalar_subquery()
    )


def _secrets() -> ScalarSelect[Any]:
    """Return the endpoint's secrets, newest first; the endpoint is the caller's, and so are they."""
    newest = (
        select(
            EndpointSecret.id,
            func.encode(EndpointSecret.sealed_secret, "base64").label("sealed"),
            EndpointSecret.created_at,
            EndpointSecret.expires_at,
        )
        .where(EndpointSecret.endpoint_id == Endpoint.id)
        .order_by(EndpointSecret.id.desc())
        .limit(MOST_SECRETS)
        .correlate(Endpoint)
        .subquery()
    )
    row = func.json_build_array(newest.c.id, newest.c.sealed, newest.c.created_at, newest.c.expires_at)
    return select(func.json_agg(row)).select_from(newest).scalar_subquery()


def _secret(row: list[Any]) -> SealedSecret:
    secret_id, sealed, created_at, expires_at = row
    return SealedSecret(
        id=UUID(secret_id),
        sealed=base64.b64decode(sealed),
        created_at=datetime.fromisoformat(created_at),
        expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
    )
