"""Workspaces: making one with all that belongs to it, and the first one at the first start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text

from app.access import audit, queries
from app.access.keys import add_key
from app.applications.service import new_application
from app.core import ids
from app.core.context import Caller
from app.core.crypto import NewApiKey, api_key_digest, key_id_of
from app.core.errors import NotFound
from app.core.quotas import Quotas
from app.models import DEFAULT_APPLICATION_UID, OPERATIONS_APPLICATION_UID, Role, Workspace

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.clock import DatabaseClock
    from app.core.runtime import Runtime

FIRST_WORKSPACE_NAME = "Default"
FIRST_KEY_NAME = "First admin key"
BOOTSTRAP_KEY_NAME = "Bootstrap key"

# One process makes the first workspace; the number is arbitrary, but fixed.
_BOOTSTRAP_LOCK = 0x62656C6C_0010
_KIND = "workspace"
# Where a quota's name in the API is not its column's.
_QUOTA_COLUMNS = {"endpoints": "max_endpoints"}


@dataclass(frozen=True, slots=True)
class NewWorkspace:
    """A workspace that was just made, and its first admin key, which is shown once (None if none was made)."""

    row: Workspace
    api_key: str | None


async def create_workspace(
    session: AsyncSession,
    *,
    clock: DatabaseClock,
    name: str,
    key: NewApiKey | None = None,
    with_key: bool = True,
    address: str | None = None,
    request_id: str | None = None,
) -> NewWorkspace:
    """Make a workspace with its applications `default` and `operations` and, unless told not to, an admin key."""
    row = Workspace(id=ids.uuid7(clock.unix_ms()), name=name)
    session.add(row)
    await session.flush()
    for uid, title in ((DEFAULT_APPLICATION_UID, "Default"), (OPERATIONS_APPLICATION_UID, "Operations")):
        session.add(new_application(clock, workspace_id=row.id, name=title, uid=uid, metadata={}))
    issued = None
    if with_key:
        issued = add_key(
            session,
            clock,
            workspace_id=row.id,
            name=BOOTSTRAP_KEY_NAME if key else FIRST_KEY_NAME,
            role=Role.ADMIN,
            key=key,
        )
    await session.flush()
    await session.refresh(row)
    await audit.record(
        session,
        _operator_in(row, address=address, request_id=request_id),
        action="workspace.created",
        object_kind=_KIND,
        object_id=ids.to_text(ids.WORKSPACE, row.id),
        after={"name": name},
    )
    return NewWorkspace(row=row, api_key=issued.text if issued else None)


async def set_quotas(
    session: AsyncSession,
    workspace: str,
    *,
    changes: dict[str, Any],
    address: str | None = None,
    request_id: str | None = None,
) -> Workspace:
    """Change a workspace's quotas; `changes` has those that are named, by their names in the API.

    Raises:
        NotFound: there is no such workspace.

    """
    workspace_id = ids.from_text(ids.WORKSPACE, workspace)
    row = await queries.lock_workspace(session, workspace_id) if workspace_id is not None else None
    if row is None:
        raise NotFound("There is no workspace with this id. List them with GET /v1/workspaces.")
    columns = {_QUOTA_COLUMNS.get(name, name): value for name, value in changes.items()}
    before = {name: getattr(row, name) for name in columns}
    for name, value in columns.items():
        setattr(row, name, value)
    await session.flush()
    if before != columns:
        await audit.record(
            session,
            _operator_in(row, address=address, request_id=request_id),
            action="workspace.quotas_changed",
            object_kind=_KIND,
            object_id=ids.to_text(ids.WORKSPACE, row.id),
            before=before,
            after=columns,
        )
    return row


async def read_quotas(session: AsyncSession, workspace_id: UUID) -> Quotas:
    """Return a workspace's own quotas, for who publishes without a key: what is read with a key is remembered there."""
    columns = (Workspace.events_per_second, Workspace.payload_bytes_per_second, Workspace.max_endpoints)
    row = (await session.execute(select(*columns).where(Workspace.id == workspace_id))).one()
    return Quotas(events_per_second=row[0], payload_bytes_per_second=row[1], endpoints=row[2])


async def ensure_first_workspace(runtime: Runtime) -> None:
    """At the first start, make the first workspace, with BELLWIRE_BOOTSTRAP_KEY as its admin key if that is set.

    Safe to run at every start, and by several processes at once: only an instance without any workspace changes.
    """
    async with runtime.sessions.begin() as session:
        if await queries.has_workspaces(session):
            return
        await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _BOOTSTRAP_LOCK})
        if await queries.has_workspaces(session):
            return
        given = runtime.settings.bootstrap_key.get_secret_value()
        key = NewApiKey(text=given, key_id=key_id_of(given), digest=api_key_digest(given)) if given else None
        await create_workspace(
            session, clock=runtime.clock, name=FIRST_WORKSPACE_NAME, key=key, with_key=key is not None
        )


def _operator_in(row: Workspace, *, address: str | None, request_id: str | None) -> Caller:
    """Return the holder of the instance key, as the workspace's log names them."""
    return Caller(
        workspace_id=row.id,
        role=Role.ADMIN,
        actor_kind="instance",
        actor_id="instance",
        address=address,
        request_id=request_id,
    )
