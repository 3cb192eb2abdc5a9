"""Reading and erasing events, and publishing inside a request's own transaction (`Idempotency-Key`)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from app.access import audit
from app.core import ids
from app.core.errors import NotFound, RequestError, TooBusy
from app.deliveries.cancel import cancel_pending
from app.events import queries
from app.events.accept import Submission, Verdict, accept, first_of_uids
from app.events.ingest import MAX_MATCH_TRIES, Published, answer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.core.runtime import Runtime
    from app.events.envelope import CheckedEvent
    from app.events.matching import EventMatcher
    from app.models import Event


async def require_event(session: AsyncSession, caller: Caller, text: str) -> Event:
    """Return the caller's event.

    Raises:
        NotFound: there is none with this id in the caller's workspace.

    """
    event_id = ids.from_text(ids.EVENT, text)
    event = await queries.find_event(session, caller, event_id) if event_id is not None else None
    if event is None:
        raise NotFound(
            f"There is no event {text[:64]!r} in this workspace. Check the id: it begins with evt_."
        )
    return event


async def erase(session: AsyncSession, caller: Caller, text: str) -> None:
    """Erase an event's data for good, cancel what is still to be delivered, and keep the record."""
    event = await require_event(session, caller, text)
    if event.data_erased_at is not None:
        raise NotFound("The data of this event was erased before; nothing is left to erase.")
    await queries.erase_data(session, event.id)
    cancelled = await cancel_pending(session, event_id=event.id)
    await audit.record(
        session,
        caller,
        action="event.data_erased",
        object_kind="event",
        object_id=ids.to_text(ids.EVENT, event.id),
        after={"cancelled_deliveries": cancelled},
    )


async def publish_in_transaction(
    session: AsyncSession,
    caller: Caller,
    events: Sequence[CheckedEvent | RequestError],
    *,
    runtime: Runtime,
    matcher: EventMatcher,
    traceparent: str | None,
) -> list[Published | RequestError]:
    """Store events in the caller's transaction; return for each what became of it, in order.

    The slower way, for requests with an `Idempotency-Key`: their answer is kept in the same transaction.
    What is already an error stays one.
    """
    results: list[Published | RequestError | None] = [
        item if isinstance(item, RequestError) else None for item in events
    ]
    firsts: dict[tuple[UUID, str], Submission] = {}
    refresh = False
    for _ in range(MAX_MATCH_TRIES):
        batch: list[tuple[int, Submission]] = []
        followers: list[tuple[int, Submission]] = []
        for n, item in enumerate(events):
            if results[n] is not None or isinstance(item, RequestError):
                continue
            try:
                submission = await _match(item, caller, runtime=runtime, matcher=matcher, refresh=refresh)
            except RequestError as error:
                results[n] = error
                continue
            submission.traceparent = traceparent
            key = (submission.application_id, item.uid) if item.uid is not None else None
            if key is not None and firsts.setdefault(key, submission) is not submission:
                followers.append((n, submission))
            else:
                batch.append((n, submission))
        if not batch and not followers:
            break
        verdicts = await _accept(session, [submission for _, submission in batch], runtime=runtime)
        stored = await _stored_before(
            session, [s for (_, s), v in zip(batch, verdicts, strict=True) if v is Verdict.DUPLICATE]
        )
        for (n, submission), verdict in zip(batch, verdicts, strict=True):
            if verdict is Verdict.STALE:
                firsts = {key: s for key, s in firsts.items() if s is not submission}
                continue
            first = stored.get((submission.application_id, submission.event.uid or ""))
            results[n] = _outcome(submission, verdict, first=first)
        for n, submission in followers:
            key = (submission.application_id, submission.event.uid or "")
            leader = firsts.get(key)
            if leader is not None and leader.id is not None:
                results[n] = _outcome(
                    submission,
                    Verdict.DUPLICATE,
                    first=stored.get(key) or (leader.id, leader.event.content_hash),
                )
        refresh = True
    busy = TooBusy(
        "The application's subscriptions are changing too fast. Send the request again in a second."
    )
    return [result if result is not None else busy for result in results]


async def _match(
    event: CheckedEvent, caller: Caller, *, runtime: Runtime, matcher: EventMatcher, refresh: bool
) -> Submission:
    table, routes = await matcher.match(
        event, workspace_id=caller.workspace_id, bound_to=caller.application_id, refresh=refresh
    )
    submission = Submission(
        event=event,
        workspace_id=caller.workspace_id,
        application_id=table.application_id,
        application_uid=table.uid,
        api_key_id=caller.api_key_id,
        routing_version=table.version,
        routes=routes,
    )
    submission.assign_id(runtime.clock.unix_ms())
    return submission


async def _accept(session: AsyncSession, batch: list[Submission], *, runtime: Runtime) -> list[Verdict]:
    if not batch:
        return []
    settings = runtime.settings
    return await accept(
        session, batch, inline=settings.ingest_max_deliveries_inline, keep_days=settings.retention_days
    )


async def _stored_before(
    session: AsyncSession, duplicates: list[Submission]
) -> dict[tuple[UUID, str], tuple[UUID, bytes]]:
    keys = [(s.application_id, s.event.uid) for s in duplicates if s.event.uid is not None]
    return await first_of_uids(session, keys) if keys else {}


def _outcome(
    submission: Submission, verdict: Verdict, *, first: tuple[UUID, bytes] | None
) -> Published | RequestError:
    try:
        return answer_of(submission, verdict, first=first)
    except RequestError as error:
        return error
