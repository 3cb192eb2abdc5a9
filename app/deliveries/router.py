"""`/v1/deliveries`, and the deliveries of one event."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Path, Query
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from app.api.dependencies import Operator, RuntimeDep, Session, Viewer
from app.api.pages import CreatedRange, Page, PageParams, page_of
from app.api.routing import TransactionalRoute
from app.core.context import Caller
from app.core.error_classes import ErrorClass
from app.core.pagination import PageRequest
from app.core.runtime import Runtime
from app.core.time_limits import time_limit
from app.deliveries import queries, service
from app.deliveries.schemas import DeliveryAnswer
from app.deliveries.selection import StateName, StatusClass, Wanted, resolve
from app.events.service import require_event
from app.models import Delivery

router = APIRouter(tags=["Deliveries"], route_class=TransactionalRoute)

Reference = Annotated[str, Path(description="The delivery's id (`dlv_...`).")]


def _wanted(
    created: CreatedRange,
    application: Annotated[str | None, Query(description="Id or uid of an application.")] = None,
    endpoint: Annotated[str | None, Query(description="Id of an endpoint; a deleted one, too.")] = None,
    event: Annotated[str | None, Query(description="Id of an event.")] = None,
    type: Annotated[str | None, Query(description="The event type, exactly.")] = None,  # noqa: A002 - the contract's name
    state: Annotated[StateName | None, Query(description="The state of the delivery.")] = None,
    status_class: Annotated[
        StatusClass | None, Query(description="Class of the last response; `none`: there was none.")
    ] = None,
    error_class: Annotated[ErrorClass | None, Query(description="Why the last attempt failed.")] = None,
) -> Wanted:
    return Wanted(
        application=application,
        endpoint=endpoint,
        event=event,
        type=type,
        state=state,
        status_class=status_class,
        error_class=error_class,
        created=created,
    )


WantedDeliveries = Annotated[Wanted, Depends(_wanted)]
"""The filters that lists of deliveries and of attempts share."""


def wake_after(request: Request, background: BackgroundTasks) -> None:
    """Wake the workers once the answer, and so the commit, is out."""
    background.add_task(_wake, request)


@router.get("/v1/deliveries")
async def list_deliveries(
    caller: Viewer, session: Session, runtime: RuntimeDep, page: PageParams, wanted: WantedDeliveries
) -> Page[DeliveryAnswer]:
    """List deliveries, newest first."""
    return await _list(session, caller, wanted=wanted, page=page, runtime=runtime)


@router.get("/v1/events/{event_id}/deliveries")
async def list_deliveries_of_event(
    event_id: Annotated[str, Path(description="The event's id (`evt_...`).")],
    caller: Viewer,
    session: Session,
    runtime: RuntimeDep,
    page: PageParams,
    wanted: WantedDeliveries,
) -> Page[DeliveryAnswer]:
    """List the deliveries of one event, newest first."""
    await require_event(session, caller, event_id)
    return await _list(session, caller, wanted=replace(wanted, event=event_id), page=page, runtime=runtime)


@router.get("/v1/deliveries/{delivery}")
async def get_delivery(
    delivery: Reference, caller: Viewer, session: Session, runtime: RuntimeDep
) -> DeliveryAnswer:
    """Show one delivery."""
    found = await service.require_delivery(session, caller, delivery)
    return await show_delivery(session, caller, found, runtime=runtime)


@router.post("/v1/deliveries/{delivery}/retry", status_code=202)
async def retry_delivery(
    delivery: Reference,
    caller: Operator,
    session: Session,
    runtime: RuntimeDep,
    request: Request,
    background: BackgroundTasks,
) -> DeliveryAnswer:
    """Send a delivery at once, with a fresh schedule and the same `webhook-id`; a final one is opened again."""
    found = await service.retry_delivery(session, caller, delivery, runtime=runtime)
    wake_after(request, background)
    return await show_delivery(session, caller, found, runtime=runtime)


@router.post(
    "/v1/deliveries/{delivery}/cancel",
    responses={202: {"model": DeliveryAnswer, "description": "It is being sent, and ends with its result."}},
)
async def cancel_delivery(
    delivery: Reference, caller: Operator, session: Session, runtime: RuntimeDep, response: Response
) -> DeliveryAnswer:
    """Cancel a delivery. While it is being sent: 202, and it ends as cancelled when its result is recorded."""
    found, final = await service.cancel_delivery(session, caller, delivery)
    response.status_code = 200 if final else 202
    return await show_delivery(session, caller, found, runtime=runtime)


async def show_delivery(
    session: AsyncSession, caller: Caller, delivery: Delivery, *, runtime: Runtime
) -> DeliveryAnswer:
    """Return a delivery as it is answered."""
    (view,) = await queries.views_of(session, [delivery])
    return DeliveryAnswer.of(view, caller=caller, now=runtime.clock.now())


async def _list(
    session: AsyncSession, caller: Caller, *, wanted: Wanted, page: PageRequest, runtime: Runtime
) -> Page[DeliveryAnswer]:
    async with time_limit(session):
        selection = await resolve(session, caller, wanted)
        found = await queries.list_deliveries(session, caller, selection=selection, page=page)
        views = {view.delivery.id: view for view in await queries.views_of(session, found.rows)}
    now = runtime.clock.now()
    return page_of(found, lambda row: DeliveryAnswer.of(views[row.id], caller=caller, now=now))


async def _wake(request: Request) -> None:
    request.app.state.waker.wake()
