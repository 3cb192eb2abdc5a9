"""Writes the publishes of one flush: one statement for all of them, and an answer for each.

What one publisher did wrong is its own affair: a statement that Postgres refuses is tried again by halves, and only the
guilty request gets the error.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import structlog
from sqlalchemy.exc import DBAPIError

from app.core.db import Autocommit, away_message, is_away, may_retry
from app.core.errors import DatabaseUnavailable, Invalid, TooBusy
from app.events.accept import Submission, Verdict, accept, assign_ids, first_of_uids, stored_among

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.core.clock import DatabaseClock
    from app.core.settings import Settings

log = structlog.get_logger(__name__)

MAX_STATEMENT_TRIES = 4
# The statement went out, its answer did not come, and it cannot be looked up, or was not there yet.
UNKNOWN_MESSAGE = (
    "The connection to the database was lost while the event was being stored, so it may or may not be there. Send "
    "the same request again: with the same uid the event is stored once; without one it may be stored twice."
)


class Waiting(msgspec.Struct):
    """One publish on its way into the database; `done` is what became of it."""

    submission: Submission
    done: asyncio.Future[Verdict]
    since: float
    # The event whose row answers, where another one of the same flush had the same uid.
    leader: Submission | None = None

    @property
    def accepted(self) -> bool:
        """Return whether it is stored, by its own row."""
        done = self.done
        return (
            done.done()
            and not done.cancelled()
            and done.exception() is None
            and done.result() is Verdict.ACCEPTED
        )


class EventWriter:
    """Stores flushes, each statement a transaction of its own."""

    def __init__(
        self, *, engine: AsyncEngine, clock: DatabaseClock, settings: Settings, wake: Callable[[], None]
    ) -> None:
        # BEGIN and COMMIT would be two more round trips.
        self._engine = Autocommit(engine)
        self._clock = clock
        self._settings = settings
        self._wake = wake

    async def write(self, batch: list[Waiting]) -> None:
        """Store them and settle each; whoever had a uid first in this flush answers for the others with it."""
        assign_ids([item.submission for item in batch], unix_ms=self._clock.unix_ms())
        leaders: dict[tuple[UUID, str], Waiting] = {}
        writers: list[Waiting] = []
        followers: list[tuple[Waiting, Waiting]] = []
        for item in batch:
            uid = item.submission.event.uid
            if uid is not None:
                leader = leaders.setdefault((item.submission.application_id, uid), item)
                if leader is not item:
                    followers.append((item, leader))
                    continue
            writers.append(item)
        await self._store(writers)
        for item, leader in followers:
            _settle_follower(item, leader)
        if any(item.accepted and item.submission.routes for item in writers):
            self._wake()

    async def _store(self, writers: list[Waiting]) -> None:
        """Write and answer; one bad row must not sink the others, so a refused statement is halved."""
        try:
            verdicts = await self._execute([item.submission for item in writers])
        except DatabaseUnavailable as error:
            fail(writers, error)
        except DBAPIError as error:
            if len(writers) == 1:
                log.warning("ingest.event_refused", error=str(error.orig).splitlines()[0])
                fail(
                    writers,
                    Invalid("The event cannot be stored: Postgres refuses one of its values. Correct it."),
                )
                return
            middle = len(writers) // 2
            await self._store(writers[:middle])
            await self._store(writers[middle:])
        else:
            for item, verdict in zip(writers, verdicts, strict=True):
                if not item.done.done():
                    item.done.set_result(verdict)

    async def _execute(self, submissions: Sequence[Submission]) -> list[Verdict]:
        settings = self._settings
        for left in reversed(range(MAX_STATEMENT_TRIES)):
            sent = False
            try:
                async with (
                    asyncio.timeout(settings.ingest_deadline_seconds),
                    self._engine.connect() as connection,
                ):
                    sent = True
                    return await accept(
                        connection,
                        submissions,
                        inline=settings.ingest_max_deliveries_inline,
                        keep_days=settings.retention_days,
                    )
            except Exception as error:
                if left and may_retry(error):
                    continue
                if isinstance(error, TimeoutError) or is_away(error):
                    if not sent:
                        log.warning("ingest.database_away", error=type(error).__name__)
                        raise DatabaseUnavailable(away_message()) from error
                    return await self._after_a_lost_connection(submissions, error)
                raise
        raise DatabaseUnavailable(away_message())  # pragma: no cover - the loop returns or raises

    async def _after_a_lost_connection(
        self, submissions: Sequence[Submission], error: Exception
    ) -> list[Verdict]:
        """Find out what a statement left behind whose answer did not come: it may have been committed."""
        try:
            async with (
                asyncio.timeout(self._settings.database_connect_timeout_seconds),
                self._engine.connect() as connection,
            ):
                stored = await stored_among(connection, submissions)
        except Exception:  # noqa: BLE001 - still away: the publisher must try again
            log.warning("ingest.database_away", error=type(error).__name__)
            raise DatabaseUnavailable(UNKNOWN_MESSAGE) from error
        if not stored:
            raise DatabaseUnavailable(UNKNOWN_MESSAGE) from error
        # One statement is one transaction: all that it accepted is there, what is not was refused.
        return [Verdict.ACCEPTED if s.id in stored else Verdict.STALE for s in submissions]

    async def first_of(self, application_id: UUID, uid: str) -> tuple[UUID, bytes]:
        """Return id and content hash of the event that has the uid."""
        # In a second statement: the loser of ON CONFLICT DO NOTHING does not see the winner's row in its own.
        try:
            async with self._engine.connect() as connection:
                found = await first_of_uids(connection, [(application_id, uid)])
        except Exception as error:
            if is_away(error):
                raise DatabaseUnavailable(away_message()) from error
            raise
        try:
            return found[application_id, uid]
        except KeyError:
            raise TooBusy(
                "Another event with this uid has just been removed. Send the request again."
            ) from None


def _settle_follower(item: Waiting, leader: Waiting) -> None:
    if item.done.done():
        return
    # What befell the leader may be its own affair (its client, its API key, its other fields): then the follower
    # tries again for itself.
    verdict = Verdict.STALE
    if not leader.done.cancelled():
        error = leader.done.exception()
        if isinstance(error, DatabaseUnavailable):
            item.done.set_exception(error)
            return
        if error is None and leader.done.result() in {Verdict.ACCEPTED, Verdict.DUPLICATE}:
            verdict = leader.done.result()
            item.leader = leader.submission if verdict is Verdict.ACCEPTED else None
    item.done.set_result(verdict)


def fail(batch: list[Waiting], error: Exception) -> None:
    """Answer all of them that have none yet with the error."""
    for item in batch:
        if not item.done.done():
            item.done.set_exception(error)
