"""Subscriptions: which events go to an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from app.access import audit
from app.core import ids
from app.core.errors import Conflict, NotFound
from app.core.pagination import Page, PageRequest, fetch_page
from app.endpoints.changes import lock_endpoint, make_visible_to_workers
from app.endpoints.filters import compile_filter
from app.endpoints.patterns import require_patterns
from app.endpoints.queries import require_endpoint
from app.models import Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.clock import DatabaseClock
    from app.core.context import Caller
    from app.models import Endpoint

# Each is matched for every event of the application.
MAX_SUBSCRIPTIONS = 50


async def list_subscriptions(
    session: AsyncSession, caller: Caller, endpoint: str, *, page: PageRequest
) -> Page[Subscription]:
    """Return an endpoint's subscriptions, newest first."""
    found = await require_endpoint(session, caller, endpoint)
    query = select(Subscription).where(Subscription.endpoint_id == found.id)
    return await fetch_page(session, query, id_column=Subscription.id, page=page)


async def require_subscription(
    session: AsyncSession, caller: Caller, endpoint: str, reference: str
) -> Subscription:
    """Return one subscription of an endpoint.

    Raises:
        NotFound: there is no such endpoint, or it has no such subscription.

    """
    return await _require_of(session, await require_endpoint(session, caller, endpoint), reference)


async def create_subscription(
    session: AsyncSession,
    caller: Caller,
    endpoint: str,
    *,
    clock: DatabaseClock,
    event_types: Sequence[str],
    content_filter: str | None,
) -> Subscription:
    """Add a subscription.

    Raises:
        Conflict: the endpoint has as many as it may.
        Invalid: a pattern or the filter cannot be used.
        NotFound: there is no such endpoint.

    """
    patterns = check_subscription(event_types, content_filter)
    locked = await lock_endpoint(session, caller, endpoint)
    count = await session.scalar(
        select(func.count()).select_from(Subscription).where(Subscription.endpoint_id == locked.id)
    )
    if count is not None and count >= MAX_SUBSCRIPTIONS:
        raise Conflict(
            f"The endpoint has {count} subscriptions, and at most {MAX_SUBSCRIPTIONS} are allowed. "
            "Put more patterns into one of them."
        )
    row = new_subscription(locked, clock=clock, event_types=patterns, content_filter=content_filter)
    session.add(row)
    await make_visible_to_workers(session, locked, routing=True)
    await session.refresh(row)
    await _record(session, caller, row, action="subscription.created", after=_shown(row))
    return row


async def update_subscription(
    session: AsyncSession, caller: Caller, endpoint: str, reference: str, *, changes: Mapping[str, Any]
) -> Subscription:
    """Change what `changes` names (`event_types`, `filter`).

    Raises:
        Invalid: a pattern or the filter cannot be used.
        NotFound: there is no such endpoint, or it has no such subscription.

    """
    checked = check_changes(changes)
    locked = await lock_endpoint(session, caller, endpoint)
    row = await _require_of(session, locked, reference)
    before = _shown(row)
    apply_changes(row, checked)
    if session.is_modified(row):
        row.updated_at = func.now()
        await make_visible_to_workers(session, locked, routing=True)
        await session.refresh(row)
        await _record(session, caller, row, action="subscription.updated", before=before, after=_shown(row))
    return row


async def delete_subscription(session: AsyncSession, caller: Caller, endpoint: str, reference: str) -> None:
    """Remove a subscription; deliveries that it caused go on.

    Raises:
        NotFound: there is no such endpoint, or it has no such subscription.

    """
    locked = await lock_endpoint(session, caller, endpoint)
    row = await _require_of(session, locked, reference)
    await session.delete(row)
    await make_visible_to_workers(session, locked, routing=True)
    await _record(session, caller, row, action="subscription.deleted", before=_shown(row))


def check_subscription(event_types: Sequence[str], content_filter: str | None) -> list[str]:
    """Return the patterns as they are kept.

    Raises:
        Invalid: a pattern or the filter cannot be used.

    """
    patterns = require_patterns(event_types)
    if content_filter is not None:
        compile_filter(content_filter)
    return patterns


def check_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the changes that concern a subscription, checked.

    Raises:
        Invalid: a pattern or the filter cannot be used.

    """
    checked = {}
    if "event_types" in changes:
        checked["event_types"] = require_patterns(changes["event_types"])
    if "filter" in changes:
        checked["filter"] = changes["filter"]
        if changes["filter"] is not None:
            compile_filter(changes["filter"])
    return checked


def apply_changes(row: Subscription, checked: Mapping[str, Any]) -> None:
    """Write checked changes into a row."""
    for name, value in checked.items():
        setattr(row, name, value)


def new_subscription(
    endpoint: Endpoint, *, clock: DatabaseClock, event_types: list[str], content_filter: str | None
) -> Subscription:
    """Return a new row, not yet added to a session."""
    return Subscription(
        id=ids.uuid7(clock.unix_ms()),
        workspace_id=endpoint.workspace_id,
        application_id=endpoint.application_id,
        endpoint_id=endpoint.id,
        event_types=event_types,
        filter=content_filter,
    )


async def _require_of(session: AsyncSession, endpoint: Endpoint, reference: str) -> Subscription:
    subscription_id = ids.from_text(ids.SUBSCRIPTION, reference)
    found = await session.get(Subscription, subscription_id) if subscription_id is not None else None
    if found is None or found.endpoint_id != endpoint.id:
        raise NotFound(
            f"The endpoint has no subscription {reference[:64]!r}. "
            "GET the endpoint's /subscriptions lists those there are; an id begins with sub_."
        )
    return found


def _shown(row: Subscription) -> dict[str, Any]:
    return {"event_types": list(row.event_types), "filter": row.filter}


async def _record(
    session: AsyncSession,
    caller: Caller,
    row: Subscription,
    *,
    action: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    await audit.record(
        session,
        caller,
        action=action,
        object_kind="subscription",
        object_id=ids.to_text(ids.SUBSCRIPTION, row.id),
        before=before,
        after=after,
    )
