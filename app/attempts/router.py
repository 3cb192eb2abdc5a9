"""`/v1/attempts`, and the attempts of one delivery: the delivery log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.dependencies import Session, Viewer
from app.api.pages import Page, PageParams, page_of
from app.api.routing import TransactionalRoute
from app.attempts import service
from app.attempts.schemas import AttemptAnswer, OutcomeName, Trigger
from app.core.time_limits import time_limit
from app.deliveries.router import WantedDeliveries

router = APIRouter(tags=["Attempts"], route_class=TransactionalRoute)


@router.get("/v1/attempts")
async def list_attempts(
    caller: Viewer,
    session: Session,
    page: PageParams,
    wanted: WantedDeliveries,
    delivery: Annotated[str | None, Query(description="Id of a delivery.")] = None,
    outcome: Annotated[OutcomeName | None, Query(description="How the attempt ended.")] = None,
    trigger: Annotated[Trigger | None, Query(description="Why the attempt was made.")] = None,
) -> Page[AttemptAnswer]:
    """List attempts, newest first. `status_class` and `error_class` are the attempt's, `state` is the delivery's."""
    async with time_limit(session):
        found = await service.list_attempts(
            session, caller, wanted=wanted, delivery=delivery, outcome=outcome, trigger=trigger, page=page
        )
    return page_of(found, lambda row: AttemptAnswer.of(row, caller=caller))


@router.get("/v1/attempts/{attempt}")
async def get_attempt(
    attempt: Annotated[str, Path(description="The attempt's id (`att_...`).")],
    caller: Viewer,
    session: Session,
) -> AttemptAnswer:
    """Show one attempt: what was sent, what came back, how long each phase took, and why it failed."""
    return AttemptAnswer.of(await service.require_attempt(session, caller, attempt), caller=caller)


@router.get("/v1/deliveries/{delivery}/attempts")
async def list_attempts_of_delivery(
    delivery: Annotated[str, Path(description="The delivery's id (`dlv_...`).")],
    caller: Viewer,
    session: Session,
    page: PageParams,
) -> Page[AttemptAnswer]:
    """List the attempts of one delivery, oldest first."""
    found = await service.attempts_of(session, caller, delivery, page=page)
    return page_of(found, lambda row: AttemptAnswer.of(row, caller=caller))
