"""The circuit as a person sees and moves it: its history, close, hold open, probe now.

What moves it by itself is in `app/deliveries/circuit.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from app.access import audit
from app.core import ids
from app.core.errors import Conflict
from app.core.pagination import Page, PageRequest, fetch_page
from app.deliveries.circuit import CircuitState, Transition
from app.deliveries.circuit_changes import write_transition
from app.endpoints.changes import lock_endpoint
from app.endpoints.queries import require_endpoint
from app.models import CircuitTransition, Endpoint, EndpointRuntime

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

# Who enables an endpoint says that it works again: what failed before must not disable it at once.
_FORGET_FAILURES = text(
    "UPDATE endpoint_runtime SET consecutive_failures = 0, failing_since = NULL, failure_warnings = 0"
    " WHERE workspace_id = :workspace AND endpoint_id = :id"
)


@dataclass(frozen=True, slots=True)
class CircuitView:
    """An endpoint's circuit, and a page of its transitions."""

    runtime: EndpointRuntime
    transitions: Page[CircuitTransition]


async def circuit_of(
    session: AsyncSession, caller: Caller, reference: str, *, page: PageRequest
) -> CircuitView:
    """Return an endpoint's circuit and its transitions, newest first.

    Raises:
        NotFound: there is no such endpoint.

    """
    endpoint = await require_endpoint(session, caller, reference)
    query = select(CircuitTransition).where(
        CircuitTransition.workspace_id == caller.workspace_id, CircuitTransition.endpoint_id == endpoint.id
    )
    return CircuitView(
        runtime=(await session.scalars(_runtime_of(endpoint.id))).one(),
        transitions=await fetch_page(session, query, id_column=CircuitTransition.id, page=page),
    )


async def close_circuit(session: AsyncSession, caller: Caller, reference: str) -> Endpoint:
    """Close a circuit and forget what was counted. Safe to repeat: one that is closed stays as it is.

    Raises:
        NotFound: there is no such endpoint.

    """
    endpoint, runtime = await _lock(session, caller, reference)
    await _close(session, caller, runtime, reason="Closed by a person.")
    return endpoint


async def open_circuit(session: AsyncSession, caller: Caller, reference: str) -> Endpoint:
    """Open a circuit and hold it open. Safe to repeat.

    Raises:
        NotFound: there is no such endpoint.

    """
    endpoint, runtime = await _lock(session, caller, reference)
    state = CircuitState(runtime.circuit_state)
    if state is CircuitState.OPEN and runtime.next_probe_at is None:
        return endpoint
    transition = Transition(
        source=state,
        target=CircuitState.OPEN,
        reason="Held open by a person: nothing is sent until somebody closes or probes it.",
        openings=runtime.circuit_openings,
    )
    await _move(session, caller, runtime, transition, action="endpoint.circuit_opened")
    return endpoint


async def probe_circuit(session: AsyncSession, caller: Caller, reference: str) -> Endpoint:
    """Let the next delivery of an open circuit go as a probe; one that is being probed stays as it is.

    The caller wakes the workers after the commit.

    Raises:
        Conflict: the circuit is closed.
        NotFound: there is no such endpoint.

    """
    endpoint, runtime = await _lock(session, caller, reference)
    state = CircuitState(runtime.circuit_state)
    if state is CircuitState.CLOSED:
        raise Conflict(
            "The circuit of this endpoint is closed: deliveries are being sent, so there is nothing to probe. "
            f"Send a test instead: POST /v1/endpoints/{ids.to_text(ids.ENDPOINT, endpoint.id)}/test."
        )
    if state is CircuitState.OPEN:
        # A claim of this very moment may have begun before this transaction.
        now = (await session.execute(select(func.now() - timedelta(seconds=1)))).scalar_one()
        transition = Transition(
            source=state,
            target=CircuitState.OPEN,
            reason="A person asked for a probe: the next delivery that waits is sent.",
            openings=runtime.circuit_openings,
            next_probe_at=now,
        )
        await _move(session, caller, runtime, transition, action="endpoint.circuit_probed")
    return endpoint


async def close_after_enabling(session: AsyncSession, caller: Caller, endpoint: Endpoint) -> None:
    """Close the circuit of an endpoint that is locked and was enabled, and forget its failures."""
    runtime = (await session.scalars(_runtime_of(endpoint.id).with_for_update())).one()
    await session.execute(_FORGET_FAILURES, {"workspace": endpoint.workspace_id, "id": endpoint.id})
    await _close(session, caller, runtime, reason="Closed because the endpoint was enabled.")


async def _lock(session: AsyncSession, caller: Caller, reference: str) -> tuple[Endpoint, EndpointRuntime]:
    endpoint = await lock_endpoint(session, caller, reference)
    return endpoint, (await session.scalars(_runtime_of(endpoint.id).with_for_update())).one()


async def _close(session: AsyncSession, caller: Caller, runtime: EndpointRuntime, *, reason: str) -> None:
    state = CircuitState(runtime.circuit_state)
    if state is not CircuitState.CLOSED:
        transition = Transition(source=state, target=CircuitState.CLOSED, reason=reason)
        await _move(session, caller, runtime, transition, action="endpoint.circuit_closed")


async def _move(
    session: AsyncSession, caller: Caller, runtime: EndpointRuntime, transition: Transition, *, action: str
) -> None:
    await write_transition(
        session,
        runtime.endpoint_id,
        transition,
        workspace_id=caller.workspace_id,
        actor=caller.actor_id,
    )
    await audit.record(
        session,
        caller,
        action=action,
        object_kind="endpoint",
        object_id=ids.to_text(ids.ENDPOINT, runtime.endpoint_id),
        before={"circuit": transition.source},
        after={"circuit": transition.target},
    )


def _runtime_of(endpoint_id: UUID) -> Select[EndpointRuntime]:
    return (
        select(EndpointRuntime)
        .where(EndpointRuntime.endpoint_id == endpoint_id)
        .execution_options(populate_existing=True)
    )
