"""The quota of endpoints: how many a workspace may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.core.errors import Conflict
from app.models import Endpoint, Workspace

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.core.settings import Settings


async def require_room(session: AsyncSession, caller: Caller, *, settings: Settings) -> None:
    """See that the caller's workspace may have one more endpoint, and let nobody else add one meanwhile.

    Where a quota is in force the workspace's row is locked until the transaction ends, so the quota is exact.

    Raises:
        Conflict: it has as many as it may have.

    """
    of_workspace = select(Workspace.max_endpoints).where(Workspace.id == caller.workspace_id)
    own = await session.scalar(of_workspace)
    if not (settings.workspace_endpoints if own is None else own):
        return
    own = await session.scalar(of_workspace.with_for_update(key_share=True))
    quota = settings.workspace_endpoints if own is None else own
    has = await session.scalar(
        select(func.count())
        .select_from(Endpoint)
        .where(Endpoint.workspace_id == caller.workspace_id, Endpoint.deleted_at.is_(None))
    )
    if quota and (has or 0) >= quota:
        raise Conflict(
            f"This workspace has {has:,} endpoints and may have {quota:,}. Delete one that is no longer needed, or ask "
            "the operator for a higher quota.",
            slug="quota-reached",
        )
