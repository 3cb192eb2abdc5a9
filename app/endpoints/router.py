"""`/v1/endpoints`, with secrets, switches, tests and statistics."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, BackgroundTasks, Path, Query
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from app.api.dependencies import Admin, Operator, RawFields, RuntimeDep, SecretReader, Session, Viewer
from app.api.pages import Page, PageParams, page_of
from app.api.routing import TransactionalRoute
from app.applications.service import require_application
from app.core.context import Caller
from app.core.runtime import Runtime
from app.deliveries.router import show_delivery, wake_after
from app.deliveries.schemas import DeliveryAnswer
from app.endpoints import circuit, queries, secrets, service, stats, switches, trial
from app.endpoints.schemas import (
    CircuitAnswer,
    CircuitTransitionAnswer,
    EndpointAnswer,
    EndpointCreate,
    EndpointUpdate,
    Health,
    HealthState,
    NewEndpointAnswer,
    PreviousSecret,
    RotatedSecretAnswer,
    SecretAnswer,
    SecretRotate,
    TestSend,
)
from app.models import Endpoint
from app.stats.schemas import EndpointStatsAnswer
from app.stats.windows import window_until

router = APIRouter(prefix="/v1/endpoints", tags=["Endpoints"], route_class=TransactionalRoute)

Reference = Annotated[str, Path(description="The endpoint's id (`ep_...`).")]


@router.post("", status_code=201)
async def create_endpoint(
    body: EndpointCreate, caller: Admin, session: Session, runtime: RuntimeDep
) -> NewEndpointAnswer:
    """Make an endpoint. Its secret is in this answer only."""
    given = body.model_dump(exclude={"application"})
    made = await service.create_endpoint(
        session, caller, runtime=runtime, application=body.application, given=given
    )
    (view,) = await queries.views_of(session, [made.endpoint])
    return NewEndpointAnswer.created(view, secret=made.secret, caller=caller, runtime=runtime)


@router.get("")
async def list_endpoints(
    caller: Viewer,
    session: Session,
    runtime: RuntimeDep,
    page: PageParams,
    application: Annotated[str | None, Query(description="Id or uid of an application.")] = None,
    enabled: Annotated[bool | None, Query(description="Only those enabled, or disabled.")] = None,
    health: Annotated[HealthState | None, Query(description="State of the circuit.")] = None,
) -> Page[EndpointAnswer]:
    """List endpoints, newest first."""
    wanted = await require_application(session, caller, application) if application is not None else None
    found = await queries.list_endpoints(
        session,
        caller,
        page=page,
        application_id=wanted.id if wanted else None,
        enabled=enabled,
        health=health,
    )
    views = {view.id: view for view in await queries.views_of(session, found.rows)}
    return page_of(found, lambda row: EndpointAnswer.of(views[row.id], caller=caller, runtime=runtime))


@router.get("/{endpoint}")
async def get_endpoint(
    endpoint: Reference, caller: Viewer, session: Session, runtime: RuntimeDep
) -> EndpointAnswer:
    """Show one endpoint."""
    found = await queries.require_endpoint(session, caller, endpoint)
    return await _show(session, caller, found, runtime=runtime)


@router.patch("/{endpoint}")
async def update_endpoint(
    endpoint: Reference,
    body: EndpointUpdate,
    caller: Admin,
    session: Session,
    runtime: RuntimeDep,
    request: Request,
    background: BackgroundTasks,
) -> EndpointAnswer:
    """Change an endpoint; fields that are left out stay as they are, null sets a field back to its default."""
    found = await service.update_endpoint(session, caller, endpoint, runtime=runtime, changes=body.changes())
    wake_after(request, background)
    return await _show(session, caller, found, runtime=runtime)


@router.delete("/{endpoint}", status_code=204)
async def delete_endpoint(endpoint: Reference, caller: Admin, session: Session) -> None:
    """Delete an endpoint: what waits is cancelled, and the record of what was delivered stays."""
    await service.delete_endpoint(session, caller, endpoint)


@router.get("/{endpoint}/secret")
async def get_secret(
    endpoint: Reference, caller: SecretReader, session: Session, runtime: RuntimeDep
) -> SecretAnswer:
    """Show the signing secret. Who asked is kept in the audit log."""
    found = await secrets.reveal_secret(session, caller, endpoint, keyring=runtime.keyring)
    return SecretAnswer(
        secret=found.secret, previous=[PreviousSecret(expires_at=end) for end in found.previous]
    )


@router.post("/{endpoint}/secret/rotate")
async def rotate_secret(
    endpoint: Reference,
    caller: Admin,
    session: Session,
    runtime: RuntimeDep,
    body: SecretRotate | None = None,
) -> RotatedSecretAnswer:
    """Replace the signing secret; until the grace ends requests carry both signatures."""
    asked = body or SecretRotate()
    secret = await secrets.rotate_secret(
        session,
        caller,
        endpoint,
        clock=runtime.clock,
        keyring=runtime.keyring,
        grace_seconds=asked.grace_seconds,
        secret=asked.secret,
    )
    return RotatedSecretAnswer(secret=secret)


@router.post("/{endpoint}/secret/revoke-previous")
async def revoke_previous_secrets(
    endpoint: Reference, caller: Admin, session: Session, runtime: RuntimeDep
) -> EndpointAnswer:
    """End the grace of all earlier secrets: from the next request on only the current one signs."""
    await secrets.revoke_previous(session, caller, endpoint)
    found = await queries.require_endpoint(session, caller, endpoint)
    return await _show(session, caller, found, runtime=runtime)


@router.post("/{endpoint}/test", status_code=202)
async def send_test(
    endpoint: Reference,
    caller: Operator,
    session: Session,
    runtime: RuntimeDep,
    request: Request,
    background: BackgroundTasks,
    raw: RawFields,
    body: TestSend | None = None,
) -> DeliveryAnswer:
    """Send one test event, also to an endpoint that is disabled or paused; it counts in no statistics."""
    asked = body or TestSend()
    delivery = await trial.send_test(
        session,
        caller,
        endpoint,
        clock=runtime.clock,
        event_type=asked.type,
        data=raw["data"] if "data" in asked.model_fields_set else trial.GREETING,
    )
    wake_after(request, background)
    return await show_delivery(session, caller, delivery, runtime=runtime)


@router.post("/{endpoint}/enable")
async def enable_endpoint(
    endpoint: Reference,
    caller: Operator,
    session: Session,
    runtime: RuntimeDep,
    request: Request,
    background: BackgroundTasks,
) -> EndpointAnswer:
    """Enable an endpoint: new events go to it again, and what waits is sent."""
    found = await switches.set_enabled(session, caller, endpoint, enabled=True)
    wake_after(request, background)
    return await _show(session, caller, found, runtime=runtime)


@router.post("/{endpoint}/disable")
async def disable_endpoint(
    endpoint: Reference, caller: Operator, session: Session, runtime: RuntimeDep
) -> EndpointAnswer:
    """Disable an endpoint: it gets no new events, and what waits stays until it is enabled or too old."""
    found = await switches.set_enabled(session, caller, endpoint, enabled=False)
    return await _show(session, caller, found, runtime=runtime)


@router.post("/{endpoint}/pause")
async def pause_endpoint(
    endpoint: Reference, caller: Operator, session: Session, runtime: RuntimeDep
) -> EndpointAnswer:
    """Pause an endpoint: events keep collecting, and wait."""
    found = await switches.set_paused(session, caller, endpoint, paused=True)
    return await _show(session, caller, found, runtime=runtime)


@router.post("/{endpoint}/resume")
async def resume_endpoint(
    endpoint: Reference,
    caller: Operator,
    session: Session,
    runtime: RuntimeDep,
    request: Request,
    background: BackgroundTasks,
) -> EndpointAnswer:
    """Resume an endpoint that is paused, or whose FIFO line a dead delivery holds up: what waits is sent."""
    found = await switches.set_paused(session, caller, endpoint, paused=False)
    wake_after(request, background)
    return await _show(session, caller, found, runtime=runtime)


@router.get("/{endpoint}/circuit")
async def get_circuit(
    endpoint: Reference, caller: Viewer, session: Session, page: PageParams
) -> CircuitAnswer:
    """Show how the circuit is, and its transitions with their reasons, newest first."""
    found = await circuit.circuit_of(session, caller, endpoint, page=page)
    shown = page_of(found.transitions, CircuitTransitionAnswer.of)
    return CircuitAnswer(
        health=Health.of(found.runtime),
        data=shown.data,
        next_cursor=shown.next_cursor,
        prev_cursor=shown.prev_cursor,
    )


@router.post("/{endpoint}/circuit/close")
async def close_circuit(
    endpoint: Reference,
    caller: Operator,
    session: Session,
    runtime: RuntimeDep,
    request: Request,
    background: BackgroundTasks,
) -> EndpointAnswer:
    """Close the circuit: what waits is sent, one request at a time at first, then more with each success."""
    found = await circuit.close_circuit(session, caller, endpoint)
    wake_after(request, background)
    return await _show(session, caller, found, runtime=runtime)


@router.post("/{endpoint}/circuit/open")
async def open_circuit(
    endpoint: Reference, caller: Operator, session: Session, runtime: RuntimeDep
) -> EndpointAnswer:
    """Open the circuit and hold it open: nothing is sent, and nothing probed, until somebody closes or probes it."""
    found = await circuit.open_circuit(session, caller, endpoint)
    return await _show(session, caller, found, runtime=runtime)


@router.post("/{endpoint}/circuit/probe")
async def probe_circuit(
    endpoint: Reference,
    caller: Operator,
    session: Session,
    runtime: RuntimeDep,
    request: Request,
    background: BackgroundTasks,
) -> EndpointAnswer:
    """Probe an open circuit now, instead of when its time has come: the next delivery that waits is sent."""
    found = await circuit.probe_circuit(session, caller, endpoint)
    wake_after(request, background)
    return await _show(session, caller, found, runtime=runtime)


@router.get("/{endpoint}/stats")
async def get_endpoint_stats(
    endpoint: Reference,
    caller: Viewer,
    session: Session,
    runtime: RuntimeDep,
    window: Annotated[Literal["1h", "24h", "7d"], Query(description="How far to look back.")] = "24h",
) -> EndpointStatsAnswer:
    """Show counts by outcome, the success rate, percentiles of the duration, and what waits."""
    asked = window_until(window, runtime.clock.now())
    return EndpointStatsAnswer.of(await stats.stats_of(session, caller, endpoint, window=asked), window=asked)


async def _show(
    session: AsyncSession, caller: Caller, endpoint: Endpoint, *, runtime: Runtime
) -> EndpointAnswer:
    (view,) = await queries.views_of(session, [endpoint])
    return EndpointAnswer.of(view, caller=caller, runtime=runtime)
