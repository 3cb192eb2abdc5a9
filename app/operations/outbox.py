"""The outbox's publisher: each notice becomes exactly one event of its workspace's application `operations`.

Event, deliveries and queue rows are written by the accept statement, in the transaction that deletes the notice: a
process that dies between the two leaves neither. Any number of workers may publish at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from sqlalchemy import text

from app.core import metrics
from app.events.accept import Submission, Verdict, accept
from app.events.envelope import CheckedEvent
from app.events.filter_errors import add_filter_errors
from app.events.matching import EventMatcher
from app.events.routing import RoutingCache
from app.models import OPERATIONS_APPLICATION_UID
from app.operations.notices import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.core.clock import DatabaseClock
    from app.core.settings import Settings
    from app.events.routing import RoutingTable

log = structlog.get_logger(__name__)

# Notices published by one transaction: some 20 ms.
MOST_AT_ONCE = 200

ANY_WAITING = text("SELECT EXISTS (SELECT 1 FROM notices)")
OLDEST = text("SELECT id, workspace_id, type, data, created_at FROM notices ORDER BY id LIMIT :most")
# Of what was matched, what no other worker is publishing at this moment or has published already.
TAKE = text(
    "SELECT id FROM notices WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR UPDATE SKIP LOCKED"
)
DELETE = text("DELETE FROM notices WHERE id = ANY(CAST(:ids AS bigint[]))")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did with the oldest notices. `routed` says whether there is something to deliver."""

    found: int = 0
    published: int = 0
    dropped: int = 0
    routed: bool = False

    @property
    def settled(self) -> int:
        """Notices that are no longer there."""
        return self.published + self.dropped


class Outbox:
    """Publishes notices. One per worker process; it remembers the subscriptions of `operations`."""

    def __init__(self, *, engine: AsyncEngine, clock: DatabaseClock, settings: Settings) -> None:
        """`engine` begins transactions: event and notice must change together."""
        self._engine = engine
        self._clock = clock
        self._settings = settings
        self._routing = RoutingCache(engine, max_age_seconds=settings.max_age_seconds)
        self._matcher = EventMatcher(routing=self._routing)

    async def publish_oldest(self, *, most: int = MOST_AT_ONCE) -> Turn:
        """Publish the oldest notices and return what was done.

        Notices whose subscriptions changed since they were matched stay for the next turn, and so does everything
        after an error. Matching, with filters that may be slow, comes before the transaction.
        """
        async with self._engine.connect() as connection:
            oldest = (await connection.execute(OLDEST, {"most": most})).all()
        if not oldest:
            return Turn()
        tables = {
            workspace_id: await self._routing.get(workspace_id, OPERATIONS_APPLICATION_UID)
            for workspace_id in dict.fromkeys(notice.workspace_id for notice in oldest)
        }
        prepared = {notice.id: await self._prepare(notice, tables[notice.workspace_id]) for notice in oldest}
        async with self._engine.begin() as connection:
            ours = {
                notice_id: prepared[notice_id]
                for (notice_id,) in await connection.execute(TAKE, {"ids": list(prepared)})
            }
            verdicts = await self._accept(connection, [made for made in ours.values() if made is not None])
            done = [n for n, made in ours.items() if made is None or verdicts[id(made)] is Verdict.ACCEPTED]
            await connection.execute(DELETE, {"ids": done})
        published = [made for n in done if (made := ours[n]) is not None]
        metrics.NOTICES_PUBLISHED.inc(len(published))
        await self._look_again(
            {made.workspace_id for n, made in ours.items() if made is not None and n not in done}
        )
        self._report_dropped([notice for notice in oldest if notice.id in done and ours[notice.id] is None])
        await self._report_filter_errors()
        return Turn(
            found=len(oldest),
            published=len(published),
            dropped=len(done) - len(published),
            routed=any(made.routes for made in published),
        )

    def close(self) -> None:
        """Let the filters' threads go."""
        self._matcher.close()

    async def _prepare(self, notice: Row[Any], table: RoutingTable | None) -> Submission | None:
        """Match a notice; None: there is nowhere to publish it."""
        if table is None:
            return None
        event = CheckedEvent(
            type=notice.type,
            data=orjson.dumps(shown(notice.data)),
            application=OPERATIONS_APPLICATION_UID,
            uid=None,
            occurred_at=notice.created_at,
            correlation_id=None,
            metadata=None,
            high=False,
            content_hash=b"",
        )
        made = Submission(
            event=event,
            workspace_id=notice.workspace_id,
            application_id=table.application_id,
            application_uid=table.uid,
            api_key_id=None,
            routing_version=table.version,
            routes=await self._matcher.match_own(event, table),
        )
        made.assign_id(self._clock.unix_ms())
        return made

    async def _accept(
        self, connection: AsyncConnection, submissions: Sequence[Submission]
    ) -> dict[int, Verdict]:
        if not submissions:
            return {}
        verdicts = await accept(
            connection,
            submissions,
            inline=self._settings.ingest_max_deliveries_inline,
            keep_days=self._settings.retention_days,
        )
        return {id(made): verdict for made, verdict in zip(submissions, verdicts, strict=True)}

    async def _look_again(self, workspaces: set[UUID]) -> None:
        for workspace_id in workspaces:
            await self._routing.refresh(workspace_id, OPERATIONS_APPLICATION_UID)

    def _report_dropped(self, notices: Sequence[Row[Any]]) -> None:
        # Every workspace is made with the application, and it cannot be deleted: somebody has been at the tables.
        for notice in notices:
            log.error("notices.no_application", workspace_id=str(notice.workspace_id), type=notice.type)
            metrics.NOTICES_DROPPED.inc()

    async def _report_filter_errors(self) -> None:
        if errors := self._matcher.collect_errors():
            await add_filter_errors(self._engine, errors)


async def any_waiting(connection: AsyncConnection) -> bool:
    """Tell whether there are notices to publish."""
    return bool((await connection.execute(ANY_WAITING)).scalar_one())
