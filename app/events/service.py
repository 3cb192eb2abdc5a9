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
from app.events.ingest import MAX_MATCH_TRIES
from app.events.published import Published, answer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.core.runtime import Runtime
    from app.events.envelope import CheckedEvent
    from app.events.matching import EventMatcher
    from app.models import Event

_NO_KEY = (UUID(int=0), "")


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
    cancelled = await cancel_pending(session, workspace_id=event.workspace_id, event_id=event.id)
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
    results: dict[int, Published | RequestError] = {
        n: item for n, item in enumerate(events) if isinstance(item, RequestError)
    }
    for tries in range(MAX_MATCH_TRIES):
        open_ones = [
            (n, item)
            for n, item in enumerate(events)
            if n not in results and not isinstance(item, RequestError)
        ]
        if not open_ones:
            break
        batch: list[tuple[int, Submission]] = []
        for n, item in open_ones:
            try:
                submission = await _match(item, caller, runtime=runtime, matcher=matcher, refresh=tries > 0)
            except RequestError as error:
                results[n] = error
                continue
            submission.traceparent = traceparent
            batch.append((n, submission))
        results |= await _store(session, batch, runtime=runtime)
    busy = TooBusy(
        "The application's subscriptions are changing too fast. Send the request again in a second."
    )
    return [results.get(n, busy) for n in range(len(events))]


async def _store(
    session: AsyncSession, batch: list[tuple[int, Submission]], *, runtime: Runtime
) -> dict[int, Published | RequestError]:
    """Write what is first of its uid, and answer that and its repeats; what was matched too early is left out."""
    leaders: dict[tuple[UUID, str], Submission] = {}
    writers: list[tuple[int, Submission]] = []
    repeats: list[tuple[int, Submission]] = []
    for n, submission in batch:
        key = _key(submission)
        first_here = key is None or leaders.setdefault(key, submission) is submission
        (writers if first_here else repeats).append((n, submission))
    settings = runtime.settings
    verdicts = (
        await accept(
            session,
            [submission for _, submission in writers],
            inline=settings.ingest_max_deliveries_inline,
            keep_days=settings.retention_days,
        )
        if writers
        else []
    )
    judged = [(n, submission, verdict) for (n, submission), verdict in zip(writers, verdicts, strict=True)]
    taken = [key for _, s, verdict in judged if verdict is Verdict.DUPLICATE and (key := _key(s)) is not None]
    firsts = await first_of_uids(session, taken) if taken else {}
    for _, submission, verdict in judged:
        key = _key(submission)
        if key is not None and verdict is Verdict.ACCEPTED and submission.id is not None:
            firsts[key] = (submission.id, submission.event.content_hash)
    answers = {
        n: _outcome(submission, verdict, first=firsts.get(_key(submission) or _NO_KEY))
        for n, submission, verdict in judged
        if verdict not in {Verdict.STALE, Verdict.GONE}
    }
    # A repeat of an event whose leader was refused is tried again for itself.
    answers |= {
        n: _outcome(submission, Verdict.DUPLICATE, first=firsts[key])
        for n, submission in repeats
        if (key := _key(submission)) in firsts and key is not None
    }
    return answers


def _key(submission: Submission) -> tuple[UUID, str] | None:
    uid = submission.event.uid
    return (submission.application_id, uid) if uid is not None else None


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


def _outcome(
    submission: Submission, verdict: Verdict, *, first: tuple[UUID, bytes] | None
) -> Published | RequestError:
    try:
        return answer_of(submission, verdict, first=first)
    except RequestError as error:
        return error
