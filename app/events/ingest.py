"""The ingest buffer: group commit for publishes.

Requests that arrive while a flush is under way are written together by the next one, in one statement; a
request on an idle server is flushed at once. Each is answered when its own rows are committed. The buffer is
bounded: above its limits a publisher gets 503 with `Retry-After`, and nothing is stored.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import structlog

from app.core import metrics
from app.core.db import away_message
from app.core.errors import (
    DatabaseUnavailable,
    RequestError,
    TooBusy,
)
from app.events.accept import Submission, Verdict
from app.events.published import Published, answer_of
from app.events.writing import EventWriter, Waiting, fail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.core.clock import DatabaseClock
    from app.core.settings import Settings
    from app.events.envelope import CheckedEvent
    from app.events.matching import EventMatcher
    from app.events.routing import Route, RoutingTable

log = structlog.get_logger(__name__)

# A subscription that changes again and again while an event is matched: then somebody automates badly.
MAX_MATCH_TRIES = 5
# Gone: another application may have its uid now.
_MATCH_AGAIN = frozenset({Verdict.STALE, Verdict.GONE})
# Payload bytes that may wait, as a multiple of what one statement takes.
WAITING_BYTES_FACTOR = 8


class _Publisher(msgspec.Struct, frozen=True):
    """Who publishes: the same for all events of one request."""

    workspace_id: UUID
    api_key_id: UUID | None
    bound_to: UUID | None
    traceparent: str | None


class IngestBuffer:
    """Joins publishes into few statements. One per API process; `publish` may be called by many tasks."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        clock: DatabaseClock,
        matcher: EventMatcher,
        settings: Settings,
        wake: Callable[[], None],
    ) -> None:
        self._writer = EventWriter(engine=engine, clock=clock, settings=settings, wake=wake)
        self._matcher = matcher
        self._settings = settings
        self._waiting: deque[Waiting] = deque()
        self._waiting_bytes = 0
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False

    async def publish(
        self, event: CheckedEvent, *, workspace_id: UUID, api_key_id: UUID | None, bound_to: UUID | None = None,
        traceparent: str | None = None,
    ) -> Published:  # fmt: skip
        """Store an event with its deliveries and return when they are committed.

        Raises:
            NotFound: no such application (or the key is bound to another one).
            Conflict: the uid was used for other content, or the application is reserved.
            Invalid: the event type's schema refuses the data, or the row cannot be stored.
            TooBusy, DatabaseUnavailable: it is not known to be stored; send the same request again.

        """
        publisher = _Publisher(workspace_id, api_key_id, bound_to, traceparent)
        return await self._publish(event, publisher, waiting=self._join_at_once(event, publisher))

    async def publish_many(
        self, events: Sequence[CheckedEvent | RequestError], *, workspace_id: UUID, api_key_id: UUID | None,
        bound_to: UUID | None = None, traceparent: str | None = None,
    ) -> list[Published | RequestError]:  # fmt: skip
        """Publish each for itself, together; return what became of each, in order. What is an error stays one.

        Raises:
            DatabaseUnavailable: it met every event; where it met some, it stands among the results.

        """
        publisher = _Publisher(workspace_id, api_key_id, bound_to, traceparent)
        outcomes = await self._publish_each(
            [event for event in events if not isinstance(event, RequestError)], publisher
        )
        fatal = [
            error
            for error in outcomes
            if isinstance(error, BaseException) and not isinstance(error, RequestError)
        ]
        if fatal and (
            len(fatal) == len(outcomes) or not all(isinstance(e, DatabaseUnavailable) for e in fatal)
        ):
            raise fatal[0]
        remaining = iter(outcomes)
        return [_result(event if isinstance(event, RequestError) else next(remaining)) for event in events]

    async def close(self) -> None:
        """Write what waits, then refuse further publishes."""
        self._closed = True
        while self._flusher is not None and not self._flusher.done():
            await asyncio.wait([self._flusher])

    async def _publish_each(
        self, events: Sequence[CheckedEvent], publisher: _Publisher
    ) -> list[Published | BaseException]:
        """Publish them together and return what became of each. Only those that have to wait get tasks of their own."""
        outcomes: dict[int, Published | BaseException] = {}
        places: dict[int, Waiting] = {}
        later: list[int] = []
        for n, event in enumerate(events):
            try:
                waiting = self._join_at_once(event, publisher)
            except TooBusy as error:
                outcomes[n] = error
                continue
            if waiting is None:
                later.append(n)
            else:
                places[n] = waiting
        others = asyncio.gather(*(self._publish(events[n], publisher) for n in later), return_exceptions=True)
        try:
            for waiting in places.values():
                # One flush settles many: few of them are waited for.
                if not waiting.done.done():
                    await asyncio.wait([waiting.done])
            unsettled: list[int] = []
            for n, waiting in places.items():
                if waiting.accepted and waiting.leader is None:
                    outcomes[n] = answer_of(waiting.submission, Verdict.ACCEPTED, first=None)
                else:
                    unsettled.append(n)
            settled = await asyncio.gather(
                *(self._publish(events[n], publisher, waiting=places[n]) for n in unsettled),
                return_exceptions=True,
            )
            outcomes |= zip(unsettled, settled, strict=True)
            outcomes |= zip(later, await others, strict=True)
        except asyncio.CancelledError:
            others.cancel()
            for waiting in places.values():
                waiting.done.cancel()
            raise
        return [outcomes[n] for n in range(len(events))]

    async def _publish(
        self, event: CheckedEvent, publisher: _Publisher, *, waiting: Waiting | None = None
    ) -> Published:
        """See one event through; `waiting` is its place in the buffer, if it has one already."""
        for tries in range(MAX_MATCH_TRIES):
            if waiting is None:
                waiting = await self._match_and_join(event, publisher, refresh=tries > 0)
            try:
                verdict = await waiting.done
            except asyncio.CancelledError:
                # The client has gone: what is not yet being written is dropped before the flush.
                waiting.done.cancel()
                raise
            if verdict not in _MATCH_AGAIN:
                return await self._answer(waiting, verdict)
            waiting = None
        raise TooBusy(
            "The application's subscriptions are changing too fast to match this event. Send it again in a second."
        )

    def _join_at_once(self, event: CheckedEvent, publisher: _Publisher) -> Waiting | None:
        """Join, if the event can be matched without waiting for anything."""
        found = self._matcher.match_remembered(
            event, workspace_id=publisher.workspace_id, bound_to=publisher.bound_to
        )
        return self._join(_submission(event, publisher, *found)) if found is not None else None

    async def _match_and_join(self, event: CheckedEvent, publisher: _Publisher, *, refresh: bool) -> Waiting:
        found = await self._matcher.match(
            event, workspace_id=publisher.workspace_id, bound_to=publisher.bound_to, refresh=refresh
        )
        return self._join(_submission(event, publisher, *found))

    def _join(self, submission: Submission) -> Waiting:
        size = len(submission.event.data)
        full = (
            len(self._waiting) >= self._settings.ingest_max_waiting
            or self._waiting_bytes + size > WAITING_BYTES_FACTOR * self._settings.ingest_flush_bytes
        )
        if self._closed or full:
            metrics.PUBLISH_REFUSED.inc()
            raise TooBusy(
                "The server is stopping; send the same request again."
                if self._closed
                else "Too many publishes are waiting to be stored. Send the same request again in a second."
            )
        waiting = Waiting(submission, asyncio.get_running_loop().create_future(), time.monotonic())
        self._waiting.append(waiting)
        self._waiting_bytes += size
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._flush_until_empty())
        return waiting

    async def _flush_until_empty(self) -> None:
        while self._waiting:
            batch = self._take()
            if not batch:
                continue
            started = time.perf_counter()
            try:
                await self._writer.write(batch)
            except Exception as error:
                log.exception("ingest.flush_failed")
                fail(batch, error)
            metrics.INGEST_FLUSH_SECONDS.observe(time.perf_counter() - started)
            metrics.INGEST_FLUSH_EVENTS.observe(len(batch))

    def _take(self) -> list[Waiting]:
        """Take the next flush's publishes: not those whose client has gone or that waited too long."""
        batch: list[Waiting] = []
        size = 0
        too_old = time.monotonic() - self._settings.ingest_deadline_seconds
        while self._waiting and len(batch) < self._settings.ingest_flush_events:
            item = self._waiting[0]
            item_bytes = len(item.submission.event.data)
            if batch and size + item_bytes > self._settings.ingest_flush_bytes:
                break
            self._waiting.popleft()
            self._waiting_bytes -= item_bytes
            if item.done.done():
                continue
            if item.since < too_old:
                item.done.set_exception(DatabaseUnavailable(away_message()))
                continue
            batch.append(item)
            size += item_bytes
        return batch

    async def _answer(self, waiting: Waiting, verdict: Verdict) -> Published:
        submission, leader = waiting.submission, waiting.leader
        first: tuple[UUID, bytes] | None = None
        if leader is not None and leader.id is not None:
            verdict, first = Verdict.DUPLICATE, (leader.id, leader.event.content_hash)
        elif verdict is Verdict.DUPLICATE and submission.event.uid is not None:
            first = await self._writer.first_of(submission.application_id, submission.event.uid)
        return answer_of(submission, verdict, first=first)


def _submission(
    event: CheckedEvent, publisher: _Publisher, table: RoutingTable, routes: tuple[Route, ...]
) -> Submission:
    return Submission(
        event=event,
        workspace_id=publisher.workspace_id,
        application_id=table.application_id,
        application_uid=table.uid,
        api_key_id=publisher.api_key_id,
        routing_version=table.version,
        routes=routes,
        traceparent=publisher.traceparent,
    )


def _result(outcome: Published | BaseException) -> Published | RequestError:
    if isinstance(outcome, Published | RequestError):
        return outcome
    # Some of the batch was stored before the database went away: the rest says so for itself.
    return RequestError(str(outcome), slug="database-unavailable", retry_after_seconds=1)
