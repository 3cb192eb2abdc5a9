"""The answer to a publish: what the statement's verdict means for the publisher."""

from __future__ import annotations

from uuid import UUID

import msgspec

from app.core import metrics
from app.core.errors import BellwireError, Conflict, NotFound, Unauthenticated
from app.events.accept import Submission, Verdict


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one publish: the event's identity, and how many endpoints matched."""

    id: UUID
    application_id: UUID
    application_uid: str | None
    created_ms: int
    deliveries: int
    # The same uid and content came before: `id` is the first event's.
    replayed: bool = False


def answer_of(submission: Submission, verdict: Verdict, *, first: tuple[UUID, bytes] | None) -> Published:
    """Return the answer to a publish; `first` is the id and content hash of the event that has its uid.

    Raises:
        NotFound, Unauthenticated, Conflict: as `IngestBuffer.publish`.

    """
    event = submission.event
    if verdict is Verdict.GONE:
        raise NotFound(f"There is no application {event.application!r} in this workspace. Create it first.")
    if verdict is Verdict.REVOKED:
        raise Unauthenticated("This API key was revoked or has expired. Use another one.")
    event_id = submission.id
    replayed = verdict is Verdict.DUPLICATE and first is not None
    if replayed and first is not None:
        event_id, digest = first
        if digest != event.content_hash:
            metrics.EVENTS_CONFLICTING.inc()
            raise Conflict(
                f"The uid {event.uid!r} was used before for an event with other content. "
                "Send the first content again, or choose another uid.",
                slug="uid-conflict",
            )
    if event_id is None:  # pragma: no cover - ids are assigned before a flush
        raise BellwireError("an event without an id")
    (metrics.EVENTS_REPLAYED if replayed else metrics.EVENTS_ACCEPTED).inc()
    return Published(
        id=event_id,
        application_id=submission.application_id,
        application_uid=submission.application_uid,
        created_ms=submission.created_ms,
        deliveries=len(submission.routes),
        replayed=replayed,
    )
