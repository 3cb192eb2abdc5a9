"""`/v1/api-keys`, `/v1/audit-log` and `/v1/workspaces`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import StreamingResponse

from app.access import audit, export, keys, queries, workspaces
from app.access.export import Format
from app.access.schemas import (
    ApiKeyAnswer,
    ApiKeyCreate,
    ApiKeyRoll,
    AuditEntryAnswer,
    IssuedKeyAnswer,
    NewWorkspaceAnswer,
    RolledKeyAnswer,
    WorkspaceAnswer,
    WorkspaceCreate,
    WorkspaceUpdate,
)
from app.api.client_address import address_of
from app.api.dependencies import Admin, InstanceOperator, RuntimeDep, Session
from app.api.pages import CreatedRange, Page, PageParams, page_of
from app.api.routing import ApiRoute, TransactionalRoute
from app.core.context import Caller
from app.core.errors import Forbidden
from app.models import Role

router = APIRouter(tags=["Access"], route_class=TransactionalRoute)

# Read page after page while the answer is on its way: no transaction spans it.
exports = APIRouter(tags=["Access"], route_class=ApiRoute)

AuditAction = Annotated[str | None, Query(description="For example `endpoint.updated`.")]
AuditActor = Annotated[str | None, Query(description="Id of who did it.")]
AuditObject = Annotated[str | None, Query(alias="object", description="Id of what it was done to.")]
KeyReference = Annotated[str, Path(description="The key's id (`key_...`).")]
WorkspaceReference = Annotated[str, Path(description="The workspace's id (`wsp_...`).")]


@router.post("/v1/api-keys", status_code=201)
async def create_api_key(
    body: ApiKeyCreate, caller: Admin, session: Session, runtime: RuntimeDep
) -> IssuedKeyAnswer:
    """Make an API key. The key itself is in this answer only."""
    issued = await keys.create_key(
        session,
        caller,
        clock=runtime.clock,
        name=body.name,
        role=Role(body.role),
        application=body.application,
        expires_at=body.expires_at,
    )
    return IssuedKeyAnswer.issued(issued)


@router.get("/v1/api-keys")
async def list_api_keys(caller: Admin, session: Session, page: PageParams) -> Page[ApiKeyAnswer]:
    """List API keys, newest first, without the keys themselves. Revoked ones are gone."""
    return page_of(await queries.list_keys(session, caller, page=page), ApiKeyAnswer.of)


@router.delete("/v1/api-keys/{key}", status_code=204)
async def revoke_api_key(key: KeyReference, caller: Admin, session: Session) -> None:
    """Revoke an API key, at once."""
    await keys.revoke_key(session, caller, key)


@router.post("/v1/api-keys/{key}/roll", status_code=201)
async def roll_api_key(
    key: KeyReference, caller: Admin, session: Session, runtime: RuntimeDep, body: ApiKeyRoll | None = None
) -> RolledKeyAnswer:
    """Replace an API key: a new one like it is made, and the old one ends after the overlap."""
    overlap = (body or ApiKeyRoll()).overlap_seconds
    issued, old = await keys.roll_key(session, caller, key, clock=runtime.clock, overlap_seconds=overlap)
    return RolledKeyAnswer.rolled(issued, old)


@router.get("/v1/audit-log")
async def list_audit_log(
    caller: Admin,
    session: Session,
    page: PageParams,
    created: CreatedRange,
    action: AuditAction = None,
    actor: AuditActor = None,
    object_id: AuditObject = None,
) -> Page[AuditEntryAnswer]:
    """List who did what, newest first."""
    _refuse_bound(caller)
    found = await audit.list_entries(
        session,
        workspace_id=caller.workspace_id,
        action=action,
        actor_id=actor,
        object_id=object_id,
        created=created,
        page=page,
    )
    return page_of(found, AuditEntryAnswer.of)


@exports.get(
    "/v1/audit-log/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {kind: {"schema": {"type": "string"}} for kind in ("application/x-ndjson", "text/csv")}
        }
    },
)
async def export_audit_log(
    caller: Admin,
    runtime: RuntimeDep,
    created: CreatedRange,
    form: Annotated[Format, Query(alias="format", description="`csv` is for spreadsheets.")] = Format.NDJSON,
    action: AuditAction = None,
    actor: AuditActor = None,
    object_id: AuditObject = None,
) -> StreamingResponse:
    """Export the audit log as a file, newest entry first. The export itself is put on record."""
    _refuse_bound(caller)
    wanted = export.Wanted(action=action, actor_id=actor, object_id=object_id, created=created)
    async with runtime.sessions.begin() as session:
        await export.record_export(session, caller, form=form, wanted=wanted)
    pieces = export.export(runtime.sessions, workspace_id=caller.workspace_id, form=form, wanted=wanted)
    name = export.file_name(form)
    return StreamingResponse(
        pieces,
        headers={
            "Content-Type": export.MEDIA_TYPES[form],
            "Content-Disposition": f'attachment; filename="{name}"',
        },
    )


@router.post("/v1/workspaces", status_code=201)
async def create_workspace(
    request: Request, body: WorkspaceCreate, _: InstanceOperator, session: Session, runtime: RuntimeDep
) -> NewWorkspaceAnswer:
    """Make a workspace with its first admin key. Takes the instance key only."""
    made = await workspaces.create_workspace(
        session,
        clock=runtime.clock,
        name=body.name,
        address=address_of(request),
        request_id=request.state.request_id,
    )
    return NewWorkspaceAnswer.made(made)


@router.patch("/v1/workspaces/{workspace}")
async def update_workspace(
    request: Request,
    workspace: WorkspaceReference,
    body: WorkspaceUpdate,
    _: InstanceOperator,
    session: Session,
) -> WorkspaceAnswer:
    """Change what a workspace may use; quotas that are left out stay as they are. Takes the instance key only."""
    row = await workspaces.set_quotas(
        session,
        workspace,
        changes=body.quotas.changes(),
        address=address_of(request),
        request_id=request.state.request_id,
    )
    return WorkspaceAnswer.of(row)


@router.get("/v1/workspaces")
async def list_workspaces(_: InstanceOperator, session: Session, page: PageParams) -> Page[WorkspaceAnswer]:
    """List workspaces, newest first. Takes the instance key only."""
    return page_of(await queries.list_workspaces(session, page=page), WorkspaceAnswer.of)


def _refuse_bound(caller: Caller) -> None:
    if caller.application_id is not None:
        raise Forbidden(
            "The audit log is the whole workspace's; a key bound to one application cannot read it."
        )
