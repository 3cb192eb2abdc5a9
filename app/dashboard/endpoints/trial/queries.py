"""What a test can be made of, and what became of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.core import ids
from app.core.error_classes import ErrorClass, explain
from app.deliveries.waiting import LEASED
from app.endpoints.trial import FORGED_TYPE

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

MOST_TYPES = 1_000
SHOWN_BODY_BYTES = 4_096
PHASES = ("queue", "dns", "connect", "tls", "send", "wait", "receive")

_TYPES = text("""
SELECT name, CASE WHEN name = :wanted THEN example END AS example, CASE WHEN name = :wanted THEN schema END AS schema
  FROM event_types WHERE workspace_id = :workspace ORDER BY name = :wanted DESC, name LIMIT :most
""")
_RESULT = text("""
SELECT d.id, d.event_type, d.state, d.created_at, q.state AS queue_state, e.data, e.data_erased_at,
       a.number, a.outcome, a.response_status, a.error_class, a.error_message, a.duration_ms, a.response_headers,
       substring(a.response_body FOR :most) AS body, octet_length(a.response_body) AS body_size,
       a.queue_ms, a.dns_ms, a.connect_ms, a.tls_ms, a.send_ms, a.wait_ms, a.receive_ms
  FROM deliveries d
  JOIN events e ON e.workspace_id = :workspace AND e.id = d.event_id
  LEFT JOIN delivery_queue q ON q.workspace_id = :workspace AND q.id = d.id
  LEFT JOIN LATERAL (
    SELECT * FROM attempts WHERE workspace_id = :workspace AND delivery_id = d.id AND id >= :delivery
     ORDER BY number DESC LIMIT 1) AS a ON true
 WHERE d.workspace_id = :workspace AND d.id = :delivery AND d.endpoint_id = :endpoint AND d.test
""")


@dataclass(frozen=True, slots=True)
class Types:
    """The catalogue's names, and what it has of the type that is wanted."""

    names: list[str]
    example: bytes | None
    schema: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of an attempt, in milliseconds; `at` is where it begins."""

    name: str
    at: float
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a test. Without `outcome` it has not been sent yet."""

    id: str
    event_type: str
    data: bytes | None
    state: str
    created_at: datetime
    outcome: str | None
    status: int | None
    duration_ms: float | None
    phases: list[Phase]
    message: str | None
    hint: str | None
    body: str | None
    body_cut: bool

    @property
    def forged(self) -> bool:
        """Whether it was signed with a key that nobody has: then a refusal is what one wants."""
        return self.event_type == FORGED_TYPE

    @property
    def total(self) -> float:
        """All of the phases."""
        return max((phase.at + phase.milliseconds for phase in self.phases), default=0.0)


async def read_types(session: AsyncSession, caller: Caller, *, wanted: str) -> Types:
    """Return what the catalogue has to make a test of."""
    rows = (
        await session.execute(
            _TYPES, {"workspace": caller.workspace_id, "wanted": wanted, "most": MOST_TYPES}
        )
    ).all()
    found = next((row for row in rows if row.name == wanted), None)
    return Types(
        names=sorted(row.name for row in rows),
        example=found.example if found else None,
        schema=found.schema if found else None,
    )


async def read_result(
    session: AsyncSession, caller: Caller, endpoint_id: UUID, reference: str
) -> Result | None:
    """Return what became of a test of this endpoint; None if there is no such test."""
    delivery_id = ids.from_text(ids.DELIVERY, reference)
    if delivery_id is None:
        return None
    row = (
        await session.execute(
            _RESULT,
            {
                "workspace": caller.workspace_id,
                "endpoint": endpoint_id,
                "delivery": delivery_id,
                "most": SHOWN_BODY_BYTES,
            },
        )
    ).one_or_none()
    if row is None:
        return None
    sentence, hint = (
        explain(ErrorClass(row.error_class), row.response_status) if row.error_class else (None, None)
    )
    return Result(
        id=reference,
        event_type=row.event_type,
        data=None if row.data_erased_at else row.data,
        state="sending" if row.queue_state == LEASED else row.state,
        created_at=row.created_at,
        outcome=row.outcome,
        status=row.response_status,
        duration_ms=row.duration_ms,
        phases=_phases(row),
        message=row.error_message or sentence,
        hint=hint,
        body=row.body.decode("utf-8", "replace") if row.body else None,
        body_cut=(row.body_size or 0) > SHOWN_BODY_BYTES,
    )


def _phases(row: Any) -> list[Phase]:
    found: list[Phase] = []
    at = 0.0
    for name in PHASES:
        milliseconds = getattr(row, f"{name}_ms")
        if milliseconds is not None:
            found.append(Phase(name=name, at=at, milliseconds=max(0.0, milliseconds)))
            at += max(0.0, milliseconds)
    return found
