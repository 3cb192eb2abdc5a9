"""From the text of an API key to what it stands for: one query, or a ten-second memory of it for publishing."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text as sql

from app.core.crypto import api_key_digest, is_mistyped_key, key_id_of, same_digest
from app.core.db import Autocommit
from app.core.errors import Unauthenticated
from app.core.quotas import NO_QUOTAS, Quotas
from app.models import Role

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.core.clock import DatabaseClock

CACHE_SECONDS = 10.0
# Entries of valid and of refused keys together; the least recently used one goes.
CACHE_ENTRIES = 10_000

_FIND = sql("""
SELECT k.id, k.workspace_id, k.application_id, k.role, k.digest, k.expires_at,
       k.revoked_at <= now() AS revoked,
       k.expires_at <= now() AS expired,
       coalesce(k.last_used_at < now() - interval '1 minute', true) AS use_is_old,
       w.events_per_second, w.payload_bytes_per_second, w.max_endpoints
  FROM api_keys k JOIN workspaces w ON w.id = k.workspace_id
 WHERE k.key_id = :key_id
""")
# Whoever finds the row locked leaves it to the other: nobody waits for a statistic.
_TOUCH = sql("""
UPDATE api_keys SET last_used_at = now() WHERE id = (
  SELECT id FROM api_keys
   WHERE id = :id AND coalesce(last_used_at < now() - interval '1 minute', true)
     FOR UPDATE SKIP LOCKED)
""")


@dataclass(frozen=True, slots=True)
class CachedKey:
    """A valid API key. `application_id` is set where it is bound to one application."""

    api_key_id: UUID
    workspace_id: UUID
    application_id: UUID | None
    role: Role
    expires_at: datetime | None
    quotas: Quotas = NO_QUOTAS


async def find_key(connection: AsyncConnection, text: str) -> CachedKey:
    """Look a key up and note its use, to the minute. The connection should commit by itself.

    Raises:
        Unauthenticated: it is unknown, revoked or expired.

    """
    row = (await connection.execute(_FIND, {"key_id": key_id_of(text)})).one_or_none()
    if row is None or not same_digest(row.digest, api_key_digest(text)):
        if is_mistyped_key(text):
            raise Unauthenticated(
                "This API key was mistyped or cut off: its last letters do not fit the rest. Copy it again, whole."
            )
        raise Unauthenticated(
            "This API key is not known here. Check that it was copied whole and belongs to this installation."
        )
    if row.revoked:
        raise Unauthenticated("This API key was revoked. Ask an admin of the workspace for a new one.")
    if row.expired:
        raise _expired()
    if row.use_is_old:
        await connection.execute(_TOUCH, {"id": row.id})
    return CachedKey(
        api_key_id=row.id,
        workspace_id=row.workspace_id,
        application_id=row.application_id,
        role=Role(row.role),
        expires_at=row.expires_at,
        quotas=_quotas_of(row),
    )


def _quotas_of(row: Row[Any]) -> Quotas:
    own = (row.events_per_second, row.payload_bytes_per_second, row.max_endpoints)
    if own == (None, None, None):
        return NO_QUOTAS
    return Quotas(events_per_second=own[0], payload_bytes_per_second=own[1], endpoints=own[2])


class KeyCache:
    """Remembers for ten seconds what keys stand for, refused ones too; knows them by their digest only.

    A key that was revoked meanwhile is still found here: the statement that writes must check it again.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        clock: DatabaseClock,
        *,
        entries: int = CACHE_ENTRIES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._entries = entries
        self._monotonic = monotonic
        self._known: OrderedDict[bytes, tuple[float, CachedKey | str]] = OrderedDict()
        self._asked: dict[bytes, asyncio.Task[CachedKey | str]] = {}

    async def get(self, text: str) -> CachedKey:
        """Return what a key stands for, without a query if it was asked for lately.

        Raises:
            Unauthenticated: it is unknown, revoked or expired.

        """
        digest = api_key_digest(text)
        entry = self._known.get(digest)
        if entry is not None and entry[0] > self._monotonic():
            self._known.move_to_end(digest)
            found = entry[1]
        else:
            found = await self._ask(digest, text)
        if isinstance(found, str):
            raise Unauthenticated(found)
        if found.expires_at is not None and found.expires_at <= self._clock.now():
            raise _expired()
        return found

    async def _ask(self, digest: bytes, text: str) -> CachedKey | str:
        """Let all who wait for the same key wait for one query."""
        task = self._asked.get(digest)
        if task is None:
            task = self._asked[digest] = asyncio.create_task(self._look_up(digest, text))
            task.add_done_callback(lambda done: self._forget_question(digest, done))
        # A caller that goes away must not take the answer of the others with it.
        return await asyncio.shield(task)

    def _forget_question(self, digest: bytes, done: asyncio.Task[CachedKey | str]) -> None:
        self._asked.pop(digest, None)
        if not done.cancelled():
            # Looked at, so that a failure after all callers have gone is not reported as forgotten.
            done.exception()

    async def _look_up(self, digest: bytes, text: str) -> CachedKey | str:
        found: CachedKey | str
        try:
            async with Autocommit(self._engine).connect() as connection:
                found = await find_key(connection, text)
        except Unauthenticated as error:
            found = error.detail
        self._known[digest] = (self._monotonic() + CACHE_SECONDS, found)
        self._known.move_to_end(digest)
        if len(self._known) > self._entries:
            self._known.popitem(last=False)
        return found


def _expired() -> Unauthenticated:
    return Unauthenticated("This API key has expired. Ask an admin of the workspace for a new one.")
