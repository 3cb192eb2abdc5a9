"""Which endpoints get an event: matched in memory against a snapshot of the application's subscriptions.

A snapshot carries the application's `routing_version`; the accept statement refuses events that were
matched against an older one, so a cache is never wrong, only now and then too old and then read again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from sqlalchemy import text

from app.core import ids
from app.endpoints.filters import Filter, compile_filter
from app.endpoints.patterns import Matcher, compile_patterns
from app.events.type_rules import TypeRule
from app.models import OPERATIONS_APPLICATION_UID

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

MAX_CACHED_APPLICATIONS = 5_000
MAX_CACHED_TYPES = 1_000


class Route(msgspec.Struct, frozen=True):
    """An endpoint as the accept statement needs it."""

    endpoint_id: UUID
    fifo: bool
    max_age_seconds: int


class FilteredRoute(msgspec.Struct, frozen=True):
    """An endpoint that gets an event only if one of these filters says so."""

    route: Route
    filters: tuple[Filter, ...]


class TypeRoutes(msgspec.Struct, frozen=True):
    """Where events of one type go: always, and if a filter matches."""

    always: tuple[Route, ...]
    filtered: tuple[FilteredRoute, ...]


class _Subscriber(msgspec.Struct, frozen=True):
    route: Route
    subscriptions: tuple[tuple[Matcher, Filter | None], ...]


class RoutingTable:
    """One application's enabled endpoints and their subscriptions, at one version."""

    def __init__(
        self,
        *,
        workspace_id: UUID,
        application_id: UUID,
        uid: str | None,
        version: int,
        subscribers: list[_Subscriber],
        rules: dict[str, TypeRule],
    ) -> None:
        self.workspace_id = workspace_id
        self.application_id = application_id
        self.uid = uid
        self.version = version
        # Schemas of the workspace's event types whose data is checked.
        self.rules = rules
        self._subscribers = subscribers
        self._by_type: dict[str, TypeRoutes] = {}

    @property
    def reserved(self) -> bool:
        """Tell whether only Bellwire itself publishes here."""
        return self.uid == OPERATIONS_APPLICATION_UID

    def routes_for(self, event_type: str) -> TypeRoutes:
        """Return where events of this type go; an endpoint appears once, however many subscriptions match."""
        found = self._by_type.get(event_type)
        if found is None:
            found = self._match(event_type)
            if len(self._by_type) >= MAX_CACHED_TYPES:
                self._by_type.clear()
            self._by_type[event_type] = found
        return found

    def _match(self, event_type: str) -> TypeRoutes:
        always: list[Route] = []
        filtered: list[FilteredRoute] = []
        for subscriber in self._subscribers:
            filters = [f for matcher, f in subscriber.subscriptions if matcher.matches(event_type)]
            if any(f is None for f in filters):
                always.append(subscriber.route)
            elif filters:
                filtered.append(FilteredRoute(subscriber.route, tuple(f for f in filters if f is not None)))
        return TypeRoutes(tuple(always), tuple(filtered))


class RoutingCache:
    """Routing tables by workspace and the name that publishers use (the application's id or uid)."""

    def __init__(self, engine: AsyncEngine, *, max_age_seconds: int) -> None:
        self._engine = engine
        self._max_age_seconds = max_age_seconds
        self._tables: OrderedDict[tuple[UUID, str], RoutingTable] = OrderedDict()
        self._reading: dict[tuple[UUID, str], asyncio.Task[RoutingTable | None]] = {}

    async def get(self, workspace_id: UUID, application: str) -> RoutingTable | None:
        """Return the cached table, or read it; None: there is no such application."""
        return self.remembered(workspace_id, application) or await self.refresh(workspace_id, application)

    def remembered(self, workspace_id: UUID, application: str) -> RoutingTable | None:
        """Return the cached table, if there is one."""
        key = (workspace_id, application)
        table = self._tables.get(key)
        if table is not None:
            self._tables.move_to_end(key)
        return table

    async def refresh(self, workspace_id: UUID, application: str) -> RoutingTable | None:
        """Read the table anew, after the accept statement has called it stale.

        Events of one batch miss it all at once: they share one reading. One that began before the change may
        still be stale; the next refresh is then a new one.
        """
        key = (workspace_id, application)
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.get_running_loop().create_task(self._read(workspace_id, application))
            self._reading[key] = reading
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        # A client that goes away must not end the reading for the others.
        return await asyncio.shield(reading)

    async def _read(self, workspace_id: UUID, application: str) -> RoutingTable | None:
        table = await _load(self._engine, workspace_id, application, max_age_seconds=self._max_age_seconds)
        key = (workspace_id, application)
        if table is None:
            self._tables.pop(key, None)
            return None
        self._tables[key] = table
        self._tables.move_to_end(key)
        if len(self._tables) > MAX_CACHED_APPLICATIONS:
            self._tables.popitem(last=False)
        return table


# The application comes first and alone, so that its version is never newer than the rows read after it.
APPLICATION = text(
    "SELECT id, uid, routing_version FROM applications"
    " WHERE workspace_id = :workspace AND deleted_at IS NULL AND (id = :id OR uid = :uid)"
    " ORDER BY (id = :id) DESC LIMIT 1"
)
SUBSCRIBERS = text(
    "SELECT e.id, e.ordering = 'fifo', e.max_age_seconds, s.event_types, s.filter"
    " FROM endpoints e JOIN subscriptions s ON s.endpoint_id = e.id"
    " WHERE e.workspace_id = :workspace AND s.workspace_id = :workspace"
    " AND e.application_id = :application AND e.enabled AND e.deleted_at IS NULL ORDER BY e.id, s.id"
)


RULES = text(
    "SELECT name, validation, schema FROM event_types"
    " WHERE workspace_id = :workspace AND validation <> 'off' AND schema IS NOT NULL"
)


async def _load(
    engine: AsyncEngine, workspace_id: UUID, application: str, *, max_age_seconds: int
) -> RoutingTable | None:
    application_id = ids.from_text(ids.APPLICATION, application)
    async with engine.connect() as connection:
        found = (
            await connection.execute(
                APPLICATION, {"workspace": workspace_id, "id": application_id, "uid": application}
            )
        ).one_or_none()
        if found is None:
            return None
        rows = (
            await connection.execute(SUBSCRIBERS, {"workspace": workspace_id, "application": found[0]})
        ).all()
        rules = (await connection.execute(RULES, {"workspace": workspace_id})).all()
    by_endpoint: dict[UUID, _Subscriber] = {}
    for endpoint_id, fifo, max_age, patterns, filter_text in rows:
        subscription = (
            compile_patterns(patterns),
            compile_filter(filter_text) if filter_text is not None else None,
        )
        known = by_endpoint.get(endpoint_id)
        by_endpoint[endpoint_id] = _Subscriber(
            known.route if known else Route(endpoint_id, fifo, max_age or max_age_seconds),
            (*(known.subscriptions if known else ()), subscription),
        )
    return RoutingTable(
        workspace_id=workspace_id,
        application_id=found[0],
        uid=found[1],
        version=found[2],
        subscribers=list(by_endpoint.values()),
        rules={name: TypeRule(validation=validation, schema=schema) for name, validation, schema in rules},
    )
