"""Endpoints: make, change, delete. Secrets, subscriptions and switches have files of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from app.access import audit
from app.applications.queries import bump_routing, lock_application
from app.applications.service import require_application
from app.core import ids
from app.core.errors import Conflict, Invalid, NotFound
from app.deliveries import ranks
from app.deliveries.cancel import cancel_pending
from app.endpoints.changes import (
    disabled_by,
    forget_retries,
    lock_endpoint,
    make_visible_to_workers,
)
from app.endpoints.circuit import close_after_enabling
from app.endpoints.disabling import tell_of_disabled
from app.endpoints.headers import MASK, check_headers, merge_headers, open_headers, seal_headers
from app.endpoints.room import require_room
from app.endpoints.secrets import (
    DEFAULT_GRACE_SECONDS,
    check_secret,
    make_secret,
    new_secret_row,
    replace_secret,
    tell_of_rotation,
)
from app.endpoints.targets import check_url
from app.models import Endpoint, EndpointRuntime, Subscription
from app.subscriptions.service import apply_changes, check_changes, check_subscription, new_subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.core.runtime import Runtime
    from app.core.settings import Settings

DAY_SECONDS = 86_400

# Settings that are kept as they are given, by the API's names.
_PLAIN = (
    *("description", "max_in_flight", "timeout_seconds", "retry_schedule", "ordering", "fifo_on_dead"),
    *("format", "max_age_seconds", "enabled"),
)
# Changes of these decide which events an endpoint gets, or how their deliveries are written.
_ROUTING = frozenset({"event_types", "filter", "enabled", "ordering", "max_age_seconds"})

# An endpoint that becomes FIFO: all that waits gets into one line, in the order in which it was accepted.
_INTO_LINE = text(
    f"UPDATE delivery_queue q SET state = 0, rank = {ranks.FIFO} FROM ("  # noqa: S608 - Bellwire's own constants
    "  SELECT id FROM delivery_queue"
    "   WHERE workspace_id = :workspace AND endpoint_id = :endpoint AND state <> 1 AND rank >= 0"
    "  ORDER BY id FOR UPDATE"
    ") AS waiting WHERE q.workspace_id = :workspace AND q.id = waiting.id"
)
_END_FIFO_HOLD = text(
    "UPDATE endpoint_runtime SET held_until = NULL, held_reason = NULL"
    " WHERE workspace_id = :workspace AND endpoint_id = :endpoint AND held_reason = 'fifo_backoff'"
)


@dataclass(frozen=True, slots=True)
class CreatedEndpoint:
    """A new endpoint with its secret, which is shown this once."""

    endpoint: Endpoint
    secret: str


async def create_endpoint(
    session: AsyncSession,
    caller: Caller,
    *,
    runtime: Runtime,
    application: str | None,
    given: Mapping[str, Any],
) -> CreatedEndpoint:
    """Make an endpoint with one subscription, its secret, and its runtime row.

    `given` has the fields of the API's request but `application`, all of them.

    Raises:
        Invalid: the URL, a header, a pattern, the filter, or the secret cannot be used.
        NotFound: there is no such application.

    """
    settings, keyring = runtime.settings, runtime.keyring
    url = check_url(given["url"], settings=settings)
    check_headers(given["headers"])
    _check_age(given["max_age_seconds"], settings=settings)
    patterns = check_subscription(given["event_types"], given["filter"])
    signature = given["signature"]
    secret = (
        make_secret(signature)
        if given["secret"] is None
        else check_secret(given["secret"], signature=signature)
    )
    target = await require_application(session, caller, application)
    if await lock_application(session, target.id) is None:
        raise NotFound("The application was deleted a moment ago, so it can have no new endpoint.")
    await require_room(session, caller, settings=settings)
    await bump_routing(session, target.id)
    endpoint = Endpoint(
        id=ids.uuid7(runtime.clock.unix_ms()),
        workspace_id=caller.workspace_id,
        application_id=target.id,
        url=url,
        signature=signature,
        custom=given["metadata"],
        **{name: given[name] for name in _PLAIN},
    )
    await _keep_why_disabled(session, caller, endpoint)
    endpoint.sealed_headers = seal_headers(given["headers"], keyring=keyring, endpoint_id=endpoint.id)
    _set_rate(endpoint, given["rate_limit"])
    session.add(endpoint)
    await session.flush()
    session.add_all(
        [
            EndpointRuntime(
                endpoint_id=endpoint.id,
                workspace_id=endpoint.workspace_id,
                application_id=endpoint.application_id,
                open=endpoint.enabled,
                fifo=endpoint.ordering == "fifo",
                block_on_dead=endpoint.ordering == "fifo" and endpoint.fifo_on_dead == "block",
                max_in_flight=endpoint.max_in_flight,
                timeout_seconds=endpoint.timeout_seconds,
                rate_per_second=endpoint.rate_per_second,
                rate_burst=endpoint.rate_burst,
            ),
            new_secret_row(secret, endpoint_id=endpoint.id, clock=runtime.clock, keyring=keyring),
            new_subscription(
                endpoint, clock=runtime.clock, event_types=patterns, content_filter=given["filter"]
            ),
        ]
    )
    await session.flush()
    await session.refresh(endpoint)
    after = {name: given[name] for name in given if name not in {"secret", "headers", "url"}}
    await _record(
        session,
        caller,
        endpoint,
        action="endpoint.created",
        after=after | {"url": _auditable_url(url), "headers": sorted(given["headers"])},
    )
    return CreatedEndpoint(endpoint=endpoint, secret=secret)


async def update_endpoint(
    session: AsyncSession, caller: Caller, reference: str, *, runtime: Runtime, changes: Mapping[str, Any]
) -> Endpoint:
    """Change the fields that `changes` names; None sets a field back to its default.

    A change of `signature` makes a secret of the other kind; the one before signs beside it for a day.

    Raises:
        Conflict: `event_types` or `filter` of an endpoint with several subscriptions.
        Invalid: a value cannot be used.
        NotFound: there is no such endpoint.

    """
    changes = dict(changes)
    if "url" in changes:
        changes["url"] = check_url(changes["url"], settings=runtime.settings)
    if "headers" in changes:
        changes["headers"] = changes["headers"] or {}
        check_headers(changes["headers"])
    _check_age(changes.get("max_age_seconds"), settings=runtime.settings)
    subscription = check_changes(changes)
    endpoint = await lock_endpoint(session, caller, reference)
    before = {
        name: _shown(endpoint, name) for name in changes if name not in {"headers", "event_types", "filter"}
    }
    was_fifo, signature = endpoint.ordering == "fifo", endpoint.signature
    after: dict[str, Any] = {}
    if subscription:
        before |= await _change_subscription(session, endpoint, subscription, runtime=runtime)
    if "headers" in changes:
        stored = open_headers(endpoint.sealed_headers, keyring=runtime.keyring, endpoint_id=endpoint.id)
        before["headers"] = sorted(stored)
        # Names only; that a value under the same name is another one shows here.
        after["headers"] = sorted(changes["headers"])
        after["header_values_set"] = sorted(
            name for name, value in changes["headers"].items() if value != MASK
        )
    _apply(endpoint, changes, runtime=runtime)
    await _keep_why_disabled(session, caller, endpoint)
    if endpoint.signature != signature:
        await replace_secret(
            session,
            endpoint,
            secret=make_secret(changes["signature"]),
            grace_seconds=DEFAULT_GRACE_SECONDS,
            clock=runtime.clock,
            keyring=runtime.keyring,
        )
    await _settle_order(session, endpoint, was_fifo=was_fifo)
    if not endpoint.enabled and before.get("enabled"):
        await forget_retries(session, endpoint)
    await make_visible_to_workers(session, endpoint, routing=not _ROUTING.isdisjoint(changes))
    if endpoint.enabled and before.get("enabled") is False:
        await close_after_enabling(session, caller, endpoint)
    if not endpoint.enabled and before.get("enabled"):
        await tell_of_disabled(session, endpoint)
    if endpoint.signature != signature:
        await tell_of_rotation(session, caller, endpoint, grace_seconds=DEFAULT_GRACE_SECONDS)
    after |= subscription | {
        name: _shown(endpoint, name) for name in before if name not in {"headers", "event_types", "filter"}
    }
    await _record(session, caller, endpoint, action="endpoint.updated", before=before, after=after)
    return endpoint


async def delete_endpoint(session: AsyncSession, caller: Caller, reference: str) -> None:
    """Delete an endpoint: what waits is cancelled, what is being sent ends as cancelled, the record stays.

    Raises:
        NotFound: there is no such endpoint.

    """
    endpoint = await lock_endpoint(session, caller, reference)
    cancelled = await cancel_pending(session, workspace_id=endpoint.workspace_id, endpoint_id=endpoint.id)
    endpoint.deleted_at = func.now()
    endpoint.enabled = False
    await make_visible_to_workers(session, endpoint, routing=True)
    await _record(
        session,
        caller,
        endpoint,
        action="endpoint.deleted",
        before={"url": _auditable_url(endpoint.url)},
        after={"deliveries_cancelled": cancelled},
    )


async def _keep_why_disabled(session: AsyncSession, caller: Caller, endpoint: Endpoint) -> None:
    """Note who disables an endpoint; where it is disabled already, the first reason stays."""
    if endpoint.enabled:
        endpoint.disabled_reason = None
    elif endpoint.disabled_reason is None:
        endpoint.disabled_reason = await disabled_by(session, caller)


def _apply(endpoint: Endpoint, changes: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write checked changes into the row."""
    for name in _PLAIN:
        if name in changes:
            setattr(endpoint, name, changes[name])
    for name, column in (("url", "url"), ("signature", "signature"), ("metadata", "custom")):
        if name in changes:
            setattr(endpoint, column, changes[name])
    if "rate_limit" in changes:
        _set_rate(endpoint, changes["rate_limit"])
    if "headers" in changes:
        keyring = runtime.keyring
        stored = open_headers(endpoint.sealed_headers, keyring=keyring, endpoint_id=endpoint.id)
        merged = merge_headers(stored, changes["headers"])
        endpoint.sealed_headers = seal_headers(merged, keyring=keyring, endpoint_id=endpoint.id)


async def _change_subscription(
    session: AsyncSession, endpoint: Endpoint, checked: Mapping[str, Any], *, runtime: Runtime
) -> dict[str, Any]:
    """Change the one subscription that `event_types` and `filter` of an endpoint stand for; return what was before."""
    rows = (await session.scalars(select(Subscription).where(Subscription.endpoint_id == endpoint.id))).all()
    if len(rows) > 1:
        raise Conflict(
            f"The endpoint has {len(rows)} subscriptions, so it is not clear which one is meant. Change one of them "
            f"with PATCH /v1/endpoints/{ids.to_text(ids.ENDPOINT, endpoint.id)}/subscriptions/(its id)."
        )
    before = {name: getattr(rows[0], name) if rows else None for name in checked}
    if rows:
        apply_changes(rows[0], checked)
        rows[0].updated_at = func.now()
    else:
        row = new_subscription(endpoint, clock=runtime.clock, event_types=["*"], content_filter=None)
        apply_changes(row, checked)
        session.add(row)
    return before


async def _settle_order(session: AsyncSession, endpoint: Endpoint, *, was_fifo: bool) -> None:
    """Bring what waits into the order that the endpoint now has: queue rows first, then the runtime row."""
    fifo = endpoint.ordering == "fifo"
    which = {"workspace": endpoint.workspace_id, "endpoint": endpoint.id}
    if fifo and not was_fifo:
        await session.execute(_INTO_LINE, which)
    elif was_fifo and not fifo:
        await session.execute(_END_FIFO_HOLD, which)


def _set_rate(endpoint: Endpoint, limit: Mapping[str, Any] | None) -> None:
    endpoint.rate_per_second = limit["per_second"] if limit else None
    endpoint.rate_burst = (limit["burst"] or max(1, math.ceil(limit["per_second"]))) if limit else None


def _check_age(seconds: int | None, *, settings: Settings) -> None:
    longest = (settings.retention_days - 1) * DAY_SECONDS
    if seconds is not None and seconds > longest:
        raise Invalid.at(
            "/max_age_seconds",
            f"Events are kept for {settings.retention_days} days, so a delivery may wait {longest} seconds at most.",
        )


def _shown(endpoint: Endpoint, name: str) -> Any:
    """Return a setting as the audit log keeps it."""
    if name == "url":
        return _auditable_url(endpoint.url)
    if name == "rate_limit":
        return {"per_second": endpoint.rate_per_second, "burst": endpoint.rate_burst}
    return getattr(endpoint, "custom" if name == "metadata" else name)


def _auditable_url(url: str) -> str:
    """Return a URL without its query string, which may be a secret."""
    return url.partition("?")[0]


async def _record(
    session: AsyncSession,
    caller: Caller,
    endpoint: Endpoint,
    *,
    action: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    await audit.record(
        session,
        caller,
        action=action,
        object_kind="endpoint",
        object_id=ids.to_text(ids.ENDPOINT, endpoint.id),
        before=before,
        after=after,
    )
