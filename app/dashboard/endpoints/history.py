"""What an endpoint's circuit has seen, who moved it, and what is known of the receiver: one statement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import text

from app.core import ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

OUTCOMES = 20
TRANSITIONS = 20

# Who moved it is kept as the API's id, so names are looked up here; there are few people and keys.
_CIRCUIT = text("""
SELECT (SELECT jsonb_agg(a) FROM (
          SELECT number, outcome, error_class, response_status, started_at, duration_ms, delivery_id, ip, http_version,
                 tls_version, certificate_expires_at
            FROM attempts
           WHERE workspace_id = :workspace AND endpoint_id = :endpoint AND NOT test
           ORDER BY id DESC LIMIT :outcomes) AS a) AS outcomes,
       (SELECT jsonb_agg(t) FROM (
          SELECT at, from_state, to_state, reason, actor
            FROM circuit_transitions
           WHERE workspace_id = :workspace AND endpoint_id = :endpoint
           ORDER BY id DESC LIMIT :transitions) AS t) AS transitions,
       (SELECT jsonb_object_agg(n.id, n.name) FROM (
          SELECT id, email AS name FROM users WHERE workspace_id = :workspace ORDER BY id LIMIT 500) AS n) AS people,
       (SELECT jsonb_object_agg(n.id, n.name) FROM (
          SELECT id, name FROM api_keys WHERE workspace_id = :workspace ORDER BY id LIMIT 500) AS n) AS keys
""")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One of the newest attempts."""

    number: int
    outcome: str
    error_class: str | None
    status: int | None
    started_at: datetime
    duration_ms: float | None
    delivery: str


@dataclass(frozen=True, slots=True)
class Move:
    """One transition of the circuit; `actor` is None for Bellwire's own."""

    at: datetime
    from_state: str
    to_state: str
    reason: str
    actor: str | None


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where the newest attempt that reached anybody went; None: not known, or without TLS."""

    ip: str
    http_version: str | None
    tls_version: str | None
    certificate_expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class CircuitHistory:
    """The newest attempts, oldest first, and the newest transitions, newest first."""

    outcomes: list[Outcome]
    moves: list[Move]
    receiver: Receiver | None


async def read_circuit(session: AsyncSession, caller: Caller, endpoint_id: UUID) -> CircuitHistory:
    """Return what the circuit of an endpoint has seen."""
    which = {"workspace": caller.workspace_id, "endpoint": endpoint_id}
    most = {"outcomes": OUTCOMES, "transitions": TRANSITIONS}
    row = (await session.execute(_CIRCUIT, which | most)).one()
    names = _names(ids.USER, row.people) | _names(ids.API_KEY, row.keys)
    newest: list[dict[str, Any]] = row.outcomes or []
    return CircuitHistory(
        outcomes=[_outcome(found) for found in reversed(newest)],
        moves=[
            Move(
                **found
                | {
                    "at": datetime.fromisoformat(found["at"]),
                    "actor": names.get(found["actor"], found["actor"]),
                }
            )
            for found in row.transitions or ()
        ],
        receiver=next((_receiver(found) for found in newest if found["ip"]), None),
    )


def _names(prefix: str, found: Mapping[str, str] | None) -> dict[str, str]:
    return {ids.to_text(prefix, UUID(key)): name for key, name in (found or {}).items()}


def _outcome(found: dict[str, Any]) -> Outcome:
    return Outcome(
        number=found["number"],
        outcome=found["outcome"],
        error_class=found["error_class"],
        status=found["response_status"],
        started_at=datetime.fromisoformat(found["started_at"]),
        duration_ms=found["duration_ms"],
        delivery=ids.to_text(ids.DELIVERY, UUID(found["delivery_id"])),
    )


def _receiver(found: dict[str, Any]) -> Receiver:
    expires = found["certificate_expires_at"]
    return Receiver(
        ip=found["ip"],
        http_version=found["http_version"],
        tls_version=found["tls_version"],
        certificate_expires_at=datetime.fromisoformat(expires) if expires else None,
    )
