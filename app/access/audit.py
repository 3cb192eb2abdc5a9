"""The audit log: who changed, revealed or repaired what, from where. Rows are never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, literal_column, select

from app.core.context import Caller
from app.core.pagination import Page, PageRequest, fetch_page
from app.core.roles import Role
from app.models import AuditEntry

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    from app.core.ranges import TimeRange

AUDIT_ENTRY = "aud"  # The prefix of an entry's id in the API.

# A UUIDv7 of the database's clock (RFC 9562), for rows that are written where there is no clock at hand.
NEW_ID: ColumnElement[UUID] = literal_column("""
encode(
  set_bit(
    set_bit(
      overlay(uuid_send(gen_random_uuid())
              PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
              FROM 1 FOR 6),
      52, 1),
    53, 1),
  'hex')::uuid
""")


def own_caller(workspace_id: UUID) -> Caller:
    """Return who the log names where Bellwire acts by itself."""
    return Caller(workspace_id=workspace_id, role=Role.ADMIN, actor_kind="bellwire", actor_id="bellwire")


async def record(
    session: AsyncSession | AsyncConnection,
    caller: Caller,
    *,
    action: str,
    object_kind: str,
    object_id: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Note what the caller does, in the transaction that does it.

    `action` is `<kind>.<verb in the past>`, such as `endpoint.disabled`; `object_id` is the API's id. `before` and
    `after` hold what changed, as JSON; never a secret, a key, or the value of a header.
    """
    await session.execute(
        insert(AuditEntry).values(
            id=NEW_ID,
            workspace_id=caller.workspace_id,
            actor_kind=caller.actor_kind,
            actor_id=caller.actor_id,
            action=action,
            object_kind=object_kind,
            object_id=object_id,
            before=before,
            after=after,
            address=caller.address,
            request_id=caller.request_id,
        )
    )


async def list_entries(
    session: AsyncSession,
    *,
    workspace_id: UUID,
    action: str | None,
    actor_id: str | None,
    object_id: str | None,
    created: TimeRange,
    page: PageRequest,
) -> Page[AuditEntry]:
    """Return entries of a workspace, newest first."""
    query = select(AuditEntry).where(AuditEntry.workspace_id == workspace_id)
    if action is not None:
        query = query.where(AuditEntry.action == action)
    if actor_id is not None:
        query = query.where(AuditEntry.actor_id == actor_id)
    if object_id is not None:
        query = query.where(AuditEntry.object_id == object_id)
    query = created.apply(query, id_column=AuditEntry.id, created_at=AuditEntry.created_at)
    return await fetch_page(session, query, id_column=AuditEntry.id, page=page)
