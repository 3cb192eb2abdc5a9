"""`/dashboard/`: what goes on, and what needs attention."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from app.api.browser import SignedInVisit
from app.dashboard.page import make_router, open_page

router = make_router()


@router.get("/")
async def get_overview(visit: SignedInVisit, request: Request) -> Response:
    """Show the figures of the workspace."""
    async with open_page(request, visit) as opened:
        pass
    return opened.page("overview/overview.html", nav="overview")
