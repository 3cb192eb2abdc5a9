"""`/v1/event-types`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from app.api.dependencies import Admin, RawFields, RuntimeDep, Session, Viewer
from app.api.pages import Page, PageParams
from app.api.routing import TransactionalRoute
from app.event_types import queries, service
from app.event_types.answers import catalogue_json, event_type_json, page_json
from app.event_types.schemas import EventTypeAnswer, EventTypeCreate, EventTypeUpdate

router = APIRouter(prefix="/v1/event-types", tags=["Event types"], route_class=TransactionalRoute)

Name = Annotated[str, Path(description="The event type's name, for example `order.placed`.")]


@router.post("", status_code=201, response_model=EventTypeAnswer)
async def create_event_type(
    body: EventTypeCreate, raw: RawFields, caller: Admin, session: Session, runtime: RuntimeDep
) -> Response:
    """Put an event type into the catalogue, with a schema and an example if you like."""
    row = await service.create_event_type(
        session,
        caller,
        clock=runtime.clock,
        name=body.name,
        description=body.description,
        json_schema=body.json_schema,
        example=raw["example"] if body.example is not None else None,
        validation=body.validation,
    )
    return _json(event_type_json(row), status=201)


@router.get("", response_model=Page[EventTypeAnswer])
async def list_event_types(caller: Viewer, session: Session, page: PageParams) -> Response:
    """List the catalogue, newest first."""
    found = await queries.list_event_types(session, workspace_id=caller.workspace_id, page=page)
    return _json(page_json(found))


@router.get("/openapi.json")
async def get_catalogue(caller: Viewer, session: Session, runtime: RuntimeDep) -> Response:
    """Show the catalogue as an OpenAPI 3.1 document with `webhooks`, for receivers' tools."""
    rows = await queries.catalogue_of(session, workspace_id=caller.workspace_id)
    return _json(catalogue_json(rows, base_url=runtime.settings.public_url))


@router.get("/{name}", response_model=EventTypeAnswer)
async def get_event_type(name: Name, caller: Viewer, session: Session) -> Response:
    """Show one event type."""
    return _json(event_type_json(await service.require_event_type(session, caller, name)))


@router.patch("/{name}", response_model=EventTypeAnswer)
async def update_event_type(
    name: Name, body: EventTypeUpdate, raw: RawFields, caller: Admin, session: Session
) -> Response:
    """Change an event type. The example must fit the schema as both are then."""
    changes = body.changes()
    if changes.get("example") is not None:
        changes["example"] = raw["example"]
    return _json(event_type_json(await service.update_event_type(session, caller, name, changes=changes)))


@router.delete("/{name}", status_code=204)
async def delete_event_type(name: Name, caller: Admin, session: Session) -> None:
    """Take an event type out of the catalogue; its events are accepted as before, unchecked."""
    await service.delete_event_type(session, caller, name)


def _json(content: bytes, *, status: int = 200) -> Response:
    return Response(content, status_code=status, media_type="application/json")
