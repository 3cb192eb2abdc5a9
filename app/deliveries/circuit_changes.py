"""Changes of circuits in the database: decided after results (`settle_circuits`), or asked for by a person.

Rare, and in a transaction of their own: two workers that see the same failures lock the same row, and the second one
finds that nothing is left to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.deliveries.circuit import (
    FIRST_RAMP,
    Circuit,
    CircuitState,
    Transition,
    decide,
    draw_jitter,
    in_window,
)
from app.operations.notices import CIRCUIT_CLOSED, CIRCUIT_OPENED, Notice, note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

_LOCK = text("""
SELECT endpoint_id, workspace_id, circuit_state, consecutive_failures, window_minute, window_ok, window_failed, circuit_openings,
  probes_ok, clock_timestamp() AS now
FROM endpoint_runtime WHERE endpoint_id = ANY(CAST(:ids AS uuid[])) ORDER BY endpoint_id FOR UPDATE
""")
# It is open since it was last closed: a probe that fails in between does not make that shorter.
_OPEN = text("""
UPDATE endpoint_runtime SET circuit_state = 'open', circuit_reason = :reason,
  circuit_opened_at = coalesce(circuit_opened_at, now()), circuit_openings = :openings, next_probe_at = :next_probe_at,
  half_open_at = NULL, probes_ok = 0, ramp = NULL
WHERE workspace_id = :workspace AND endpoint_id = :id
""")
# Nothing that somebody else asked for is touched: a pause, a `Retry-After`, a FIFO line that is blocked.
_CLOSE = text(f"""
UPDATE endpoint_runtime SET circuit_state = 'closed', circuit_reason = NULL, circuit_opened_at = NULL,
  circuit_openings = 0, next_probe_at = NULL, half_open_at = NULL, probes_ok = 0, ramp = {FIRST_RAMP},
  consecutive_failures = 0, window_ok = '{{0,0,0,0,0}}', window_failed = '{{0,0,0,0,0}}'
WHERE workspace_id = :workspace AND endpoint_id = :id
""")  # noqa: S608 - Bellwire's own constants
_NOTE = text("""
INSERT INTO circuit_transitions (workspace_id, endpoint_id, from_state, to_state, reason, actor)
SELECT workspace_id, endpoint_id, :source, :target, :reason, :actor FROM endpoint_runtime
WHERE workspace_id = :workspace AND endpoint_id = :id
""")


async def settle_circuits(
    connection: AsyncConnection,
    endpoint_ids: Sequence[UUID],
    *,
    jitter: Callable[[], float] = draw_jitter,
) -> list[tuple[UUID, Transition]]:
    """Decide about these circuits, in the caller's transaction, and return what has changed. Safe to repeat."""
    made = []
    for row in (await connection.execute(_LOCK, {"ids": sorted(endpoint_ids)})).all():
        minute = int(row.now.timestamp() // 60)
        ok, failed = (
            in_window(slots, newest_minute=row.window_minute, minute=max(minute, row.window_minute))
            for slots in (row.window_ok, row.window_failed)
        )
        circuit = Circuit(
            state=CircuitState(row.circuit_state),
            consecutive_failures=row.consecutive_failures,
            results=ok + failed,
            failed=failed,
            openings=row.circuit_openings,
            probes_ok=row.probes_ok,
        )
        transition = decide(circuit, now=row.now, jitter=jitter())
        if transition is not None:
            await write_transition(connection, row.endpoint_id, transition, workspace_id=row.workspace_id)
            made.append((row.endpoint_id, transition))
    return made


async def write_transition(
    connection: AsyncConnection | AsyncSession,
    endpoint_id: UUID,
    transition: Transition,
    *,
    workspace_id: UUID,
    actor: str | None = None,
) -> None:
    """Write a change of a circuit whose runtime row is locked, note it, and tell the workspace's operators.

    They are told when deliveries stop and when they go on, not of each probe that fails in between.
    """
    source, target = transition.source, transition.target
    which = {"workspace": workspace_id, "id": endpoint_id}
    if target is CircuitState.CLOSED:
        await connection.execute(_CLOSE, which)
    else:
        await connection.execute(
            _OPEN,
            which
            | {
                "reason": transition.reason,
                "openings": transition.openings,
                "next_probe_at": transition.next_probe_at,
            },
        )
    await connection.execute(
        _NOTE,
        which
        | {
            "source": source,
            "target": target,
            "reason": transition.reason,
            "actor": actor,
        },
    )
    if CircuitState.CLOSED in {source, target}:
        kind = CIRCUIT_OPENED if source is CircuitState.CLOSED else CIRCUIT_CLOSED
        await note(connection, [Notice(endpoint_id, kind, {"reason": transition.reason})])
