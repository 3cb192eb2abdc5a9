"""The one place that keeps a session inside one workspace: whatever is read or written through it belongs there.

Queries name their workspace themselves (`_visible_to`); this is the wall behind them. It adds `workspace_id = ...` to
every ORM statement of a session that was confined, also where the query has it or has forgotten it, and refuses to
write a row of another workspace. Statements that are written as text are not seen here: each names its workspace, and
a test plans every statement of every request to find one that does not (tests/integration/api/walls/watch.py).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import event, select
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from app.models.base import OfEndpoint, OfWorkspace
from app.models.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm.util import LoaderCriteriaOption

_WORKSPACE = "workspace_id"


class OutsideTheWorkspace(Exception):
    """A row of another workspace was about to be written: a bug of ours, and nothing is stored."""


def confine(session: AsyncSession, workspace_id: UUID) -> None:
    """Keep a session inside one workspace from now on."""
    session.info[_WORKSPACE] = workspace_id


@event.listens_for(Session, "do_orm_execute")
def _narrow(state: ORMExecuteState) -> None:
    workspace_id: UUID | None = state.session.info.get(_WORKSPACE)
    if workspace_id is None or not (state.is_select or state.is_update or state.is_delete):
        return
    if not state.is_orm_statement:
        return
    by_endpoint = state.bind_mapper is not None and issubclass(state.bind_mapper.class_, OfEndpoint)
    state.statement = state.statement.options(*_criteria_of(workspace_id, by_endpoint=by_endpoint))


# Making one takes longer than what it is added to, and requests of one workspace come in rows.
@lru_cache(maxsize=1_000)
def _criteria_of(workspace_id: UUID, *, by_endpoint: bool) -> tuple[LoaderCriteriaOption, ...]:
    of_workspace = with_loader_criteria(
        OfWorkspace, lambda table: table.workspace_id == workspace_id, include_aliases=True
    )
    if not by_endpoint:
        return (of_workspace,)
    mine = select(Endpoint.id).where(Endpoint.workspace_id == workspace_id)
    return (
        of_workspace,
        with_loader_criteria(OfEndpoint, lambda table: table.endpoint_id.in_(mine), include_aliases=True),
    )


@event.listens_for(Session, "before_flush")
def _refuse_others(session: Session, _context: object, _instances: Sequence[object] | None) -> None:
    workspace_id: UUID | None = session.info.get(_WORKSPACE)
    if workspace_id is None:
        return
    for row in (*session.new, *session.dirty, *session.deleted):
        if isinstance(row, OfWorkspace) and row.workspace_id != workspace_id:
            raise OutsideTheWorkspace(
                f"A row of {type(row).__name__} belongs to the workspace {row.workspace_id}, but this session was "
                f"confined to {workspace_id}."
            )
