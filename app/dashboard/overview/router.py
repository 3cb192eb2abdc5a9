"""`/dashboard/`: what goes on, and what needs attention."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from app.access.account import asks_for_current
from app.api.browser import SignedInVisit
from app.dashboard.page import make_router, open_page

router = make_router()


@router.get("/")
async def get_overview(visit: SignedInVisit, request: Request) -> Response:
    """Show the figures of the workspace."""
    async with open_page(request, visit) as opened:
        found, runtime = opened.found, opened.runtime
    return opened.page(
        "overview/overview.html",
        nav="overview",
        # Who came by a link may set a password without the old one, for a while.
        may_set_password=not asks_for_current(found, runtime),
        came_by_link=opened.query.get("done") == "link",
    )
