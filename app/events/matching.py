"""From a checked event to its routes: the application, its schema rule, its subscriptions and filters.

Filters and schemas run on threads of their own, under a deadline: one customer's expression must not stop
another one's publish.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from app.core import metrics
from app.core.errors import Conflict, Invalid, NotFound, TooBusy
from app.endpoints.filters import FilterError

if TYPE_CHECKING:
    from uuid import UUID

    from app.events.envelope import CheckedEvent
    from app.events.routing import FilteredRoute, Route, RoutingCache, RoutingTable
    from app.events.type_rules import TypeRule

MATCH_DEADLINE_SECONDS = 1.0
MATCH_THREADS = 2
# Python reads no longer integers; JSON may hold them, and to a filter they are as good as infinite.
MAX_INTEGER_DIGITS = 4_300


class EventMatcher:
    """Matches events against cached routing tables; counts filters that err."""

    def __init__(self, *, routing: RoutingCache) -> None:
        self._routing = routing
        self._threads = ThreadPoolExecutor(MATCH_THREADS, thread_name_prefix="bellwire-filter")
        # (count, last message) by endpoint since the last collection.
        self._errors: dict[UUID, tuple[int, str]] = {}

    def match_remembered(
        self, event: CheckedEvent, *, workspace_id: UUID, bound_to: UUID | None
    ) -> tuple[RoutingTable, tuple[Route, ...]] | None:
        """Do what `match` does, where nothing has to be read or evaluated for it; else return None."""
        table = self._routing.remembered(workspace_id, event.application)
        if table is None or table.reserved or event.type in table.rules:
            return None
        if bound_to is not None and bound_to != table.application_id:
            return None
        routes = table.routes_for(event.type)
        return None if routes.filtered else (table, routes.always)

    async def match(
        self, event: CheckedEvent, *, workspace_id: UUID, bound_to: UUID | None = None, refresh: bool = False
    ) -> tuple[RoutingTable, tuple[Route, ...]]:
        """Return the application's table and the endpoints that get the event.

        Raises:
            NotFound: no such application, or the caller's key is bound to another.
            Conflict: the application is reserved for Bellwire's own events.
            Invalid: the event type's schema refuses the data (validation `reject`).
            TooBusy: that schema could not be checked in time.

        """
        table = None if refresh else await self._routing.get(workspace_id, event.application)
        if table is not None:
            # What a remembered table allows is checked by the statement that writes; what it refuses is looked at
            # again, for the catalogue or the owner of the uid may have changed since.
            with contextlib.suppress(NotFound, Invalid, TooBusy):
                return table, await self._match(event, table, bound_to=bound_to)
            refresh = True
        if refresh:
            table = await self._routing.refresh(workspace_id, event.application)
        if table is None:
            raise _no_application(event)
        try:
            return table, await self._match(event, table, bound_to=bound_to)
        except Invalid:
            metrics.SCHEMA_VIOLATIONS.labels("reject").inc()
            raise

    async def match_own(self, event: CheckedEvent, table: RoutingTable) -> tuple[Route, ...]:
        """Return the endpoints that get an event of Bellwire's own; no schema of the workspace refuses it."""
        return await self._routes(event, table, rule=None)

    async def _match(
        self, event: CheckedEvent, table: RoutingTable, *, bound_to: UUID | None
    ) -> tuple[Route, ...]:
        if bound_to is not None and bound_to != table.application_id:
            raise _no_application(event)
        if table.reserved:
            raise Conflict(
                "The application `operations` is reserved for Bellwire's own events. Publish to another application."
            )
        return await self._routes(event, table, rule=table.rules.get(event.type))

    async def _routes(
        self, event: CheckedEvent, table: RoutingTable, *, rule: TypeRule | None
    ) -> tuple[Route, ...]:
        routes = table.routes_for(event.type)
        if rule is None and not routes.filtered:
            return routes.always
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, _evaluate, event, rule, routes.filtered)
        try:
            violations, matched, errors = await asyncio.wait_for(work, MATCH_DEADLINE_SECONDS)
        except TimeoutError:
            if rule is not None and rule.validation == "reject":
                # Refused data must not get in because its check is slow.
                raise TooBusy(
                    f"The data could not be checked against the schema of {event.type!r} in time, so nothing was "
                    "stored. Send it again; if it fails again, make the data smaller or the schema simpler."
                ) from None
            late = "the filter took too long"
            violations, matched = [], []
            errors = [(route.route.endpoint_id, late) for route in routes.filtered]
        if violations and rule is not None:
            if rule.validation == "reject":
                raise Invalid(
                    f"The data breaks the schema of the event type {event.type!r}; see `errors`.",
                    errors=violations,
                )
            metrics.SCHEMA_VIOLATIONS.labels(rule.validation).inc()
        for endpoint_id, message in errors:
            self._errors[endpoint_id] = (self._errors.get(endpoint_id, (0, ""))[0] + 1, message)
            metrics.FILTER_ERRORS.inc()
        return (*routes.always, *matched)

    def collect_errors(self) -> dict[UUID, tuple[int, str]]:
        """Return and forget the filter errors since the last call: (count, last message) by endpoint."""
        errors, self._errors = self._errors, {}
        return errors

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _no_application(event: CheckedEvent) -> NotFound:
    return NotFound(
        f"There is no application {event.application!r} in this workspace. "
        "Create it with POST /v1/applications, or leave `application` out to use the default."
    )


def _evaluate(
    event: CheckedEvent, rule: Any, filtered: tuple[FilteredRoute, ...]
) -> tuple[list[Any], list[Route], list[tuple[UUID, str]]]:
    data = json.loads(event.data, parse_int=_integer)
    metadata = event.metadata or {}
    violations = rule.violations(data) if rule is not None else []
    matched: list[Route] = []
    errors: list[tuple[UUID, str]] = []
    for candidate in filtered:
        for content_filter in candidate.filters:
            try:
                if content_filter.matches(event.type, data, metadata):
                    matched.append(candidate.route)
                    break
            except FilterError as error:
                errors.append((candidate.route.endpoint_id, str(error)))
    return violations, matched, errors


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else float(digits)
