"""One delivery as a term looks at it, outside the database: the live tail makes one of each attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is known of a delivery and its last attempt.

    `data` and `headers` cost a read of their own: fill them where `Query.needs_data` or `Query.needs_headers` says so.
    """

    delivery_id: UUID
    event_id: UUID
    endpoint_id: UUID
    application_id: UUID
    event_type: str
    # Any URL that the endpoint has; what stands behind its `?` is a secret and never looked at.
    url: str
    # `pending`, `sending`, `succeeded`, `dead` or `cancelled`, as the API says it.
    state: str
    # Attempts made so far, and what the last one brought.
    attempts: int
    code: int | None = None
    error_class: str | None = None
    duration_ms: float | None = None
    attempt_id: UUID | None = None
    application_uid: str | None = None
    # The published JSON, as it is stored.
    data: bytes | None = None
    # Of the request as it was sent, and of the answer.
    headers: Sequence[tuple[str, str]] = ()
