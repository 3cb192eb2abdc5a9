"""`/v1/endpoints/{id}/subscriptions`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.api.dependencies import Admin, RuntimeDep, Session, Viewer
from app.api.pages import Page, PageParams, page_of
from app.api.routing import TransactionalRoute
from app.subscriptions import service
from app.subscriptions.schemas import SubscriptionAnswer, SubscriptionCreate, SubscriptionUpdate

router = APIRouter(
    prefix="/v1/endpoints/{endpoint}/subscriptions", tags=["Subscriptions"], route_class=TransactionalRoute
)

Reference = Annotated[str, Path(description="The endpoint's id (`ep_...`).")]
SubscriptionReference = Annotated[str, Path(description="The subscription's id (`sub_...`).")]


@router.post("", status_code=201)
async def create_subscription(
    endpoint: Reference, body: SubscriptionCreate, caller: Admin, session: Session, runtime: RuntimeDep
) -> SubscriptionAnswer:
    """Add a subscription. An endpoint gets an event once, however many of its subscriptions match."""
    row = await service.create_subscription(
        session,
        caller,
        endpoint,
        clock=runtime.clock,
        event_types=body.event_types,
        content_filter=body.filter,
    )
    return SubscriptionAnswer.of(row)


@router.get("")
async def list_subscriptions(
    endpoint: Reference, caller: Viewer, session: Session, page: PageParams
) -> Page[SubscriptionAnswer]:
    """List an endpoint's subscriptions, newest first."""
    found = await service.list_subscriptions(session, caller, endpoint, page=page)
    return page_of(found, SubscriptionAnswer.of)


@router.get("/{subscription}")
async def get_subscription(
    endpoint: Reference, subscription: SubscriptionReference, caller: Viewer, session: Session
) -> SubscriptionAnswer:
    """Show one subscription."""
    return SubscriptionAnswer.of(await service.require_subscription(session, caller, endpoint, subscription))


@router.patch("/{subscription}")
async def update_subscription(
    endpoint: Reference,
    subscription: SubscriptionReference,
    body: SubscriptionUpdate,
    caller: Admin,
    session: Session,
) -> SubscriptionAnswer:
    """Change a subscription; fields that are left out stay as they are."""
    row = await service.update_subscription(session, caller, endpoint, subscription, changes=body.changes())
    return SubscriptionAnswer.of(row)


@router.delete("/{subscription}", status_code=204)
async def delete_subscription(
    endpoint: Reference, subscription: SubscriptionReference, caller: Admin, session: Session
) -> None:
    """Remove a subscription; deliveries that it caused go on."""
    await service.delete_subscription(session, caller, endpoint, subscription)
