"""`/v1/stats`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.dependencies import RuntimeDep, Session, Viewer
from app.api.routing import TransactionalRoute
from app.applications.service import require_application
from app.core import ids
from app.stats.queries import read_figures
from app.stats.schemas import WorkspaceStatsAnswer
from app.stats.windows import WindowName, window_until

router = APIRouter(prefix="/v1/stats", tags=["Stats"], route_class=TransactionalRoute)


@router.get("")
async def get_stats(
    caller: Viewer,
    session: Session,
    runtime: RuntimeDep,
    window: Annotated[WindowName, Query(description="How far to look back.")] = "1h",
    application: Annotated[
        str | None, Query(description="Id or uid of an application; all, if left out.")
    ] = None,
) -> WorkspaceStatsAnswer:
    """Show totals, success rates, percentiles, what waits, and a series by minute or hour."""
    named = await require_application(session, caller, application) if application is not None else None
    application_id = named.id if named else caller.application_id
    asked = window_until(window, runtime.clock.now())
    figures = await read_figures(session, caller, window=asked, application_id=application_id)
    return WorkspaceStatsAnswer.of(
        figures,
        window=asked,
        application=ids.to_text(ids.APPLICATION, application_id) if application_id else None,
    )
