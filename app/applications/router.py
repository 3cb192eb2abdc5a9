"""`/v1/applications`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.api.dependencies import Admin, RuntimeDep, Session, Viewer
from app.api.pages import Page, PageParams, page_of
from app.api.routing import TransactionalRoute
from app.applications import queries, service
from app.applications.schemas import ApplicationAnswer, ApplicationCreate, ApplicationUpdate

router = APIRouter(prefix="/v1/applications", tags=["Applications"], route_class=TransactionalRoute)

Reference = Annotated[str, Path(description="The application's id (`app_...`) or uid.")]


@router.post("", status_code=201)
async def create_application(
    body: ApplicationCreate, caller: Admin, session: Session, runtime: RuntimeDep
) -> ApplicationAnswer:
    """Make an application: one party that receives webhooks."""
    row = await service.create_application(
        session, caller, clock=runtime.clock, name=body.name, uid=body.uid, metadata=body.metadata
    )
    return ApplicationAnswer.of(row)


@router.get("")
async def list_applications(caller: Viewer, session: Session, page: PageParams) -> Page[ApplicationAnswer]:
    """List applications, newest first."""
    return page_of(await queries.list_applications(session, caller, page=page), ApplicationAnswer.of)


@router.get("/{application}")
async def get_application(application: Reference, caller: Viewer, session: Session) -> ApplicationAnswer:
    """Show one application."""
    return ApplicationAnswer.of(await service.require_application(session, caller, application))


@router.patch("/{application}")
async def update_application(
    application: Reference, body: ApplicationUpdate, caller: Admin, session: Session
) -> ApplicationAnswer:
    """Change an application; fields that are left out stay as they are."""
    row = await service.update_application(session, caller, application, changes=body.changes())
    return ApplicationAnswer.of(row)


@router.delete(
    "/{application}", status_code=204, responses={409: {"description": "It is `default` or `operations`."}}
)
async def delete_application(application: Reference, caller: Admin, session: Session) -> None:
    """Delete an application: its endpoints close, what waits is cancelled, and its uid is free again."""
    await service.delete_application(session, caller, application)
