"""Waiting for changes: one look a second for all pages that listen, told to each of them in memory.

No LISTEN and NOTIFY: a commit with a notification takes a lock that all others wait for. No connection is held between
looks, and nobody looks while nobody listens.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from app.core.db import Autocommit, is_away
from app.core.errors import TooBusy
from app.core.ids import lowest_uuid_at
from app.dashboard.live.look import SESSIONS, Key, Seen, look
from app.dashboard.live.topics import APPLICATION, PARTS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.core.roles import PersonRole
    from app.dashboard.live.topics import Topic

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
SESSIONS_SECONDS = 2.0
# Streams of one process, and of one person: each visible page holds one, and pages in the background none.
MAX_STREAMS = 500
MAX_STREAMS_OF_ONE = 20
# A row that was written while the page was read has an id from a moment before.
_SLACK_MS = 2_000
_FLOOR_MS = 600_000


class Listener:
    """One page that is open: what it wants to hear, and what it has not heard yet."""

    def __init__(
        self,
        *,
        workspace_id: UUID,
        session_id: UUID,
        user_id: UUID,
        role: PersonRole,
        topics: Iterable[Topic],
        since_ms: int,
    ) -> None:
        """`since_ms`: when the page was read; what changed after that is news to it."""
        self.workspace_id, self.session_id, self.user_id, self.role = workspace_id, session_id, user_id, role
        self.topics = tuple(topics)
        self.since_ms = since_ms
        self.fresh = True
        self.over = False
        self.signed_out = False
        self.said_at = dict.fromkeys((topic.text for topic in self.topics), time.monotonic())
        self._pending: set[str] = set()
        self._news = asyncio.Event()

    async def wait(self) -> list[str]:
        """Return the topics that have changed, as soon as one has; none when the stream is over."""
        await self._news.wait()
        self._news.clear()
        pending, self._pending = sorted(self._pending), set()
        return pending

    def tell(self, topics: Iterable[str]) -> None:
        """Note topics as changed."""
        now = time.monotonic()
        for topic in topics:
            self._pending.add(topic)
            self.said_at[topic] = now
        if self._pending:
            self._news.set()

    def end(self, *, signed_out: bool = False) -> None:
        """End the stream: the process stops, or the session has ended."""
        self.over, self.signed_out = True, signed_out
        self._news.set()


class ChangeWatch:
    """Tells pages what has changed. One per API process."""

    def __init__(
        self, engine: AsyncEngine, *, idle_seconds: float, look_seconds: float = LOOK_SECONDS
    ) -> None:
        """`idle_seconds`: a session that is not used for so long has ended."""
        self._engine = Autocommit(engine)
        self._idle_seconds = idle_seconds
        self._look_seconds = look_seconds
        self._listeners: set[Listener] = set()
        self._floors: dict[UUID, UUID] = {}
        self._versions: dict[Key, object] = {}
        self._sessions_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def listening(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    def join(self, listener: Listener) -> None:
        """Let a page listen.

        Raises:
            TooBusy: too many do, or the process stops; the page asks again by itself.

        """
        of_one = Counter(each.user_id for each in self._listeners)[listener.user_id]
        if self._closed or len(self._listeners) >= MAX_STREAMS or of_one >= MAX_STREAMS_OF_ONE:
            raise TooBusy(
                "Too many pages are kept up to date at once, so this one is not: it reads itself anew every few seconds "
                "instead. Close pages that you do not need.",
                retry_after_seconds=10,
            )
        self._listeners.add(listener)
        self._floors.setdefault(listener.workspace_id, lowest_uuid_at(max(0, listener.since_ms - _FLOOR_MS)))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_while_anybody_listens())

    def leave(self, listener: Listener) -> None:
        """Forget a page that is closed."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """Let everybody go: the process stops."""
        self._closed = True
        for listener in self._listeners:
            listener.end()

    async def stop(self) -> None:
        """Let everybody go, and stop looking."""
        self.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look_while_anybody_listens(self) -> None:
        while self._listeners and not self._closed:
            began = time.monotonic()
            try:
                async with self._engine.connect() as connection:
                    await self._look(connection)
                    if began - self._sessions_at >= SESSIONS_SECONDS:
                        self._sessions_at = began
                        await self._end_sessions(connection)
            except Exception as error:
                # Who listens hears of it by the pages that it reads; the next look comes in a second.
                if not is_away(error):
                    log.exception("dashboard.look_failed")
            await asyncio.sleep(max(0.1, self._look_seconds - (time.monotonic() - began)))
        self._versions.clear()
        self._floors.clear()

    async def _look(self, connection: AsyncConnection) -> None:
        listeners = tuple(self._listeners)
        wanted = {listener.workspace_id for listener in listeners}
        self._floors = {key: floor for key, floor in self._floors.items() if key in wanted}
        objects = {
            (topic.kind, listener.workspace_id, topic.object_id)
            for listener in listeners
            for topic in listener.topics
            if topic.object_id is not None and topic.kind != APPLICATION
        }
        seen = await look(connection, floors=self._floors, objects=objects)
        before = self._versions
        keys: set[Key] = {(part, workspace_id, None) for part in PARTS for workspace_id in wanted} | objects
        known = {workspace_id for _, workspace_id, _ in before}
        # A workspace or an object that was not looked at before has no change yet; see `_missed`.
        moved = {
            key
            for key in keys
            if (key in before if key[2] is not None else key[1] in known)
            and before.get(key) != seen.versions.get(key)
        }
        # Absent rows are remembered as such: the first of a kind is a change.
        self._versions = {key: seen.versions.get(key) for key in keys}
        for listener in listeners:
            listener.tell(_news(listener, moved, seen))
            listener.fresh = False

    async def _end_sessions(self, connection: AsyncConnection) -> None:
        listeners = tuple(self._listeners)
        rows = await connection.execute(
            SESSIONS,
            {
                "ids": list({listener.session_id for listener in listeners}),
                "idle_seconds": self._idle_seconds,
            },
        )
        roles = {row.id: row.role for row in rows}
        for listener in listeners:
            # Another role may hear of other topics: the page asks again, and is told what it may.
            if roles.get(listener.session_id) != listener.role.value:
                listener.end(signed_out=listener.session_id not in roles)


def _news(listener: Listener, moved: set[Key], seen: Seen) -> list[str]:
    now = time.monotonic()
    workspace_id = listener.workspace_id
    missed = _missed(listener, seen) if listener.fresh else frozenset[str]()
    news = []
    for topic in listener.topics:
        parts = topic.moved_by
        key = (topic.kind, workspace_id, topic.object_id)
        if topic.object_id is not None and topic.kind != APPLICATION and key not in seen.versions:
            # Another workspace's, or none at all: whatever happens here does not move it.
            continue
        if (
            any((part, workspace_id, None) in moved for part in parts)
            or key in moved
            or not missed.isdisjoint(parts if topic.object_id is None else PARTS)
            or (topic.every_seconds is not None and now - listener.said_at[topic.text] >= topic.every_seconds)
        ):
            news.append(topic.text)
    return news


def _missed(listener: Listener, seen: Seen) -> frozenset[str]:
    """Return the parts with rows from after the page was read, which nobody has compared with anything."""
    since = listener.since_ms - _SLACK_MS
    return frozenset(part for part in PARTS if seen.newest_ms.get((part, listener.workspace_id), 0) >= since)
